//! Numbers and closed forms.

use crate::Form::{Math, Text};
use crate::{Case, Draw, joined};

/// A term of a sum, by its index.
type Term = fn(i64) -> i64;

fn binomial(n: i64, k: i64) -> i64 {
    (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
}

fn falling(n: i64, k: i64) -> i64 {
    (0..k).fold(1, |product, i| product * (n - i))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(crate) fn plain_values(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (value, other) = draw.value();
    case.right(&value, Math(value.clone()));
    case.wrong(&value, Math(other));
    let (v, w) = draw.pair();
    case.right(&v.to_string(), Text(v.to_string()));
    case.wrong(&v.to_string(), Text(w.to_string()));
    let (a, b) = (draw.int(-50, 50), draw.int(51, 99));
    let (left, right) = (draw.one(&["(", "["]), draw.one(&[")", "]"]));
    let (other_left, other_right) = (if left == "(" { "[" } else { "(" }, if right == ")" { "]" } else { ")" });
    let gold = format!("{left}{a},{b}{right}");
    case.right(&gold, Math(format!("\\left{left}{a}, {b}\\right{right}")));
    for wrong in [
        format!("{other_left}{a},{b}{right}"),
        format!("{left}{a},{b}{other_right}"),
        format!("{left}{},{b}{right}", a - 1),
        format!("{left}{a},{}{right}", b + 1),
    ] {
        case.wrong(&gold, Math(wrong));
    }
    let gold = format!("\\begin{{pmatrix}} {a} & {b} \\\\ 0 & 1 \\end{{pmatrix}}");
    case.right(&gold, Math(format!("\\begin{{pmatrix}}{a}&{b}\\\\0&1\\end{{pmatrix}}")));
    case.wrong(&gold, Math(format!("\\begin{{pmatrix}}{b}&{a}\\\\0&1\\end{{pmatrix}}")));
    case.wrong(&gold, Math(format!("\\begin{{pmatrix}}{a}&{}\\\\0&1\\end{{pmatrix}}", draw.near(b))));
    case
}

pub(crate) fn numerals_as_right_factors(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b, c, d) = (draw.nonzero(-5, 5), draw.int(2, 9), draw.nonzero(-2, 3), draw.nonzero(-9, 9));
    let space = draw.one(&["", " "]);
    let write = |a: i64, b: i64, c: i64, d: i64| format!("(n{a:+}){space}{b}^{{n{c:+}}}{d:+}");
    let gold = write(a, b, c, d);
    case.right(&gold, Math(gold.clone()));
    case.right(&gold, Math(format!("{d}+(n{a:+})\\cdot {b}^{{n{c:+}}}")));
    case.right(&format!("{d}+{b}^{{n{c:+}}}(n{a:+})"), Math(gold.clone()));
    for wrong in [
        write(-a, b, c, d),
        write(a + 1, b, c, d),
        write(a, b + 1, c, d),
        write(a, b, c + 1, d),
        write(a, b, -c, d),
        write(a, b, c, -d),
        write(a, b, c, d + 1),
    ] {
        case.wrong(&gold, Math(wrong));
    }
    let gold = format!("n{space}{b}^{{n{c:+}}}");
    case.right(&gold, Math(format!("n \\cdot {b}^{{n{c:+}}}")));
    case.wrong(&gold, Math(format!("n{space}{b}^{{n{:+}}}", c + 1)));
    case.wrong(&gold, Math(format!("{b}n^{{n{c:+}}}")));
    let gold = format!("\\frac{{1}}{{{}}} {b}^{{n}}", b + 1);
    case.right(&gold, Math(format!("\\frac{{{b}^n}}{{{}}}", b + 1)));
    case.wrong(&gold, Math(format!("\\frac{{1}}{{{}}} {b}^{{n}}", b + 2)));
    case
}

pub(crate) fn ratios(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (mut a, mut b) = (draw.int(1, 9), draw.int(1, 9));
    let common = gcd(a, b);
    (a, b) = (a / common, b / common);
    let gold = format!("{a}:{b}");
    case.right(&gold, Math(format!("{a} : {b}")));
    case.right(&gold, Math(format!("{}:{}", 100 * a, 100 * b)));
    case.right(&gold, Math(format!("\\frac{{{a}}}{{{b}}}")));
    if a != b {
        case.wrong(&gold, Math(format!("{b}:{a}")));
    }
    case.wrong(&gold, Math(format!("{}:{b}", a + 1)));
    case.wrong(&gold, Math(format!("{a}:{}", b + 1)));
    case.wrong(&gold, Math(format!("0:{b}")));
    let zero = format!("{a}:0");
    case.wrong(&zero, Math(format!("{}:0", a + 1)));
    case.wrong("0:0", Math(gold));
    case
}

pub(crate) fn bases(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let base = draw.int(3, 9);
    let mut digits = vec![draw.int(1, base - 1)];
    for _ in 0..2 + draw.below(3) {
        digits.push(draw.int(0, base - 1));
    }
    let bare = |digits: &[i64]| joined(digits, "");
    let value = |digits: &[i64], base: i64| digits.iter().fold(0, |sum, digit| sum * base + digit);
    let gold = bare(&digits);
    let based = format!("{gold}_{{{base}}}");
    case.right(&based, Math(gold.clone()));
    case.right(&gold, Math(based.clone()));
    case.right(&based, Math(format!("{gold}_{base}")));
    case.right(&based, Math(value(&digits, base).to_string()));
    case.wrong(&based, Math(format!("{gold}_{{{}}}", base + 1)));
    case.wrong(&based, Math((value(&digits, base) + 1).to_string()));
    let at = draw.below(digits.len());
    let mut changed = digits.clone();
    changed[at] = (changed[at] + 1) % base;
    if changed[0] != 0 {
        let written = bare(&changed);
        case.wrong(&based, Math(format!("{written}_{{{base}}}")));
        if value(&changed, 10) != value(&digits, base) {
            case.wrong(&based, Math(written.clone()));
        }
        if value(&changed, base) != value(&digits, 10) {
            case.wrong(&gold, Math(format!("{written}_{base}")));
        }
    }
    case
}

pub(crate) fn powers_of_ten(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, k) = (draw.int(11, 99), draw.nonzero(-12, 15));
    let (units, tenths) = (a / 10, a % 10);
    let write = |units: i64, tenths: i64, k: i64, style: usize| match style {
        0 => format!("{units}.{tenths}e{k}"),
        1 => format!("{units}.{tenths} \\times 10^{{{k}}}"),
        2 => format!("{units}.{tenths}\\cdot 10^{{{k}}}"),
        _ => format!("{units}.{tenths}×10^{{{k}}}"),
    };
    let gold = write(units, tenths, k, draw.below(4));
    for style in 0..4 {
        case.right(&gold, Math(write(units, tenths, k, style)));
        case.wrong(&gold, Math(write(units, tenths, -k, style)));
        case.wrong(&gold, Math(write(units, tenths, k + 1, style)));
        case.wrong(&gold, Math(write(units, (tenths + 1) % 10, k, style)));
        case.wrong(&gold, Math(write(units % 9 + 1, tenths, k, style)));
    }
    if k > 0 {
        let zeros = "0".repeat(k as usize - 1);
        case.right(&gold, Math(format!("{a}{zeros}")));
        case.wrong(&gold, Math(format!("{a}{zeros}0")));
        case.wrong(&gold, Math(format!("{}{zeros}", a + 1)));
    }
    case
}

pub(crate) fn points_after_integers(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (p, q) = (draw.nonzero(-99, 99), draw.int(2, 60));
    let gold = format!("{p}./{q}");
    let exact = format!("\\frac{{{p}}}{{{q}}}");
    case.right(&gold, Math(exact.clone()));
    case.right(&exact, Math(gold.clone()));
    case.wrong(&gold, Math(format!("\\frac{{{}}}{{{q}}}", -p)));
    case.wrong(&gold, Math(format!("\\frac{{{}}}{{{q}}}", p + 1)));
    case.wrong(&gold, Math(format!("\\frac{{{p}}}{{{}}}", q + 1)));
    case.wrong(&gold, Math(p.to_string()));
    case.wrong(&exact, Math(format!("{}./{q}", draw.near(p))));
    case
}

pub(crate) fn ordinals(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    let suffix = |n: i64| match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    for (n, is_right) in [(v, true), (w, false)] {
        let gold = v.to_string();
        for form in [
            Math(format!("{n}{}", suffix(n))),
            Math(format!("{n}\\text{{{}}}", suffix(n))),
            Math(format!("{n}^{{\\text{{{}}}}}", suffix(n))),
            Text(format!("{n}{}", suffix(n))),
        ] {
            case.add(is_right, &gold, form);
        }
        let gold = format!("{v}{}", suffix(v));
        case.add(is_right, &gold, Math(n.to_string()));
    }
    case
}

pub(crate) fn short_decimals_in_structures(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (i, j) = (draw.int(11, 49), draw.int(52, 99));
    let (d, e) = (draw.int(-45, 45), draw.int(-45, 45));
    let far = draw.int(60, 95);
    let gold = format!("(0.{i}, 0.{j})");
    let write = |one: i64, two: i64| format!("(0.{one:04}, 0.{two:04})");
    let (one, two) = (100 * i + d, 100 * j + e);
    case.right(&gold, Math(write(one, two)));
    case.right(&gold, Math(gold.clone()));
    case.wrong(&gold, Math(write(two, one)));
    case.wrong(&gold, Math(write(100 * i + far, two)));
    case.wrong(&gold, Math(write(one, 100 * j - far)));
    case.wrong(&gold, Math(format!("(-0.{one:04}, 0.{two:04})")));
    case.wrong(&format!("0.{}", draw.int(1, 8)), Math(format!("0.9{i}")));
    case
}

pub(crate) fn counts(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let n = draw.int(5, 14);
    let k = draw.int(2, n - 2);
    let choose: [fn(i64, i64) -> String; 5] = [
        |n, k| format!("C_{{{n}}}^{{{k}}}"),
        |n, k| format!("\\mathrm{{C}}_{{{n}}}^{{{k}}}"),
        |n, k| format!("{{}}_{{{n}}}C_{{{k}}}"),
        |n, k| format!("{{}}^{{{n}}}C_{{{k}}}"),
        |n, k| format!("\\binom{{{n}}}{{{k}}}"),
    ];
    let arrange: [fn(i64, i64) -> String; 3] = [
        |n, k| format!("A_{{{n}}}^{{{k}}}"),
        |n, k| format!("\\mathrm{{A}}_{{{n}}}^{{{k}}}"),
        |n, k| format!("{{}}_{{{n}}}P_{{{k}}}"),
    ];
    let mut family = |write: &[fn(i64, i64) -> String], count: fn(i64, i64) -> i64| {
        let value = count(n, k);
        for one in write {
            case.right(&value.to_string(), Math(one(n, k)));
            case.right(&one(n, k), Math(value.to_string()));
            case.right(&one(n, k), Math(write[0](n, k)));
            for (n, k) in [(n + 1, k), (n, k + 1), (n - 1, k), (n, k - 1)] {
                if count(n, k) != value {
                    case.wrong(&value.to_string(), Math(one(n, k)));
                    case.wrong(&one(n, k), Math(value.to_string()));
                }
            }
            case.wrong(&one(n, k), Math((value + 1).to_string()));
        }
    };
    family(&choose, binomial);
    family(&arrange, falling);
    case.wrong(&falling(n, k).to_string(), Math(choose[draw.below(5)](n, k)));
    case.wrong(&binomial(n, k).to_string(), Math(arrange[draw.below(3)](n, k)));
    case.right("\\frac{n(n-1)}{2}", Math("C_n^2".to_owned()));
    case.wrong("\\frac{n(n-1)}{2}", Math("C_n^3".to_owned()));
    case.wrong("\\frac{n(n-1)}{2}", Math("A_n^2".to_owned()));
    case
}

pub(crate) fn finite_sums_and_integrals(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let low = draw.int(0, 3);
    let high = low + draw.int(2, 9);
    let terms: [(&str, Term); 4] = [("k", |k| k), ("k^2", |k| k * k), ("2^{k}", |k| 1 << k), ("(2k-1)", |k| 2 * k - 1)];
    let (term, at) = terms[draw.below(4)];
    let sum = |low: i64, high: i64| (low..=high).map(at).sum::<i64>();
    let write = |low: i64, high: i64| format!("\\sum_{{k={low}}}^{{{high}}} {term}");
    let (gold, value) = (write(low, high), sum(low, high));
    let renamed = term.replace('k', "j");
    case.right(&gold, Math(gold.clone()));
    case.right(&gold, Math(value.to_string()));
    case.right(&value.to_string(), Math(gold.clone()));
    case.right(&gold, Math(format!("\\sum\\limits_{{j={low}}}^{{{high}}}{renamed}")));
    for (low, high) in [(low + 1, high), (low, high + 1), (low, high - 1), (low + 1, high + 1)] {
        if sum(low, high) != value {
            case.wrong(&gold, Math(write(low, high)));
            case.wrong(&value.to_string(), Math(write(low, high)));
        }
    }
    let other = draw.near(value);
    case.wrong(&gold, Math(other.to_string()));
    case.wrong(&other.to_string(), Math(gold));
    let (a, b, p) = (draw.int(0, 3), draw.int(4, 7), draw.int(1, 3));
    let write = |a: i64, b: i64, p: i64| format!("\\int_{{{a}}}^{{{b}}} {}x^{p} \\, dx", p + 1);
    let area = b.pow(p as u32 + 1) - a.pow(p as u32 + 1);
    let gold = write(a, b, p);
    case.right(&gold, Math(area.to_string()));
    case.right(&area.to_string(), Math(gold.clone()));
    case.wrong(&area.to_string(), Math(write(b, a, p)));
    case.wrong(&area.to_string(), Math(write(a, b + 1, p)));
    case.wrong(&gold, Math(write(a, b, p + 1)));
    case.wrong(&gold, Math((area + 1).to_string()));
    let n = draw.int(3, 8);
    let product = falling(n, n);
    case.right(&product.to_string(), Math(format!("\\prod_{{k=1}}^{{{n}}} k")));
    case.wrong(&product.to_string(), Math(format!("\\prod_{{k=1}}^{{{}}} k", n + 1)));
    case
}

pub(crate) fn residue_classes(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let m = draw.int(3, 40);
    let r = draw.int(0, m - 1);
    let other = (r + 1) % m;
    let writings: [fn(i64, i64) -> String; 4] = [
        |r, m| format!("{r} \\pmod{{{m}}}"),
        |r, m| format!("{r} \\ (\\text{{mod }} {m})"),
        |r, m| format!("{r}\\ (\\mathrm{{mod}}\\ {m})"),
        |r, m| format!("{r} \\pmod {m}"),
    ];
    for write in writings {
        let gold = format!("x \\equiv {}", writings[draw.below(4)](r, m));
        case.right(&gold, Math(format!("x \\equiv {}", write(r, m))));
        case.wrong(&gold, Math(format!("x \\equiv {}", write(other, m))));
        case.wrong(&gold, Math(format!("x \\equiv {}", write(r, m + 1))));
        case.right(&format!("{r} \\pmod{{{m}}}"), Math(write(r, m)));
        case.wrong(&format!("{r} \\pmod{{{m}}}"), Math(write(other, m)));
        case.right(&r.to_string(), Math(write(r, m)));
        case.wrong(&r.to_string(), Math(write(other, m)));
    }
    case
}
