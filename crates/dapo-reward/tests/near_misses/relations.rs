//! Equations, relations, labels, conditions and qualifiers.

use crate::Form::{Math, Text};
use crate::{Case, Draw};

pub(crate) fn labels(draw: &mut Draw) -> Case {
    const LABELS: &[&str] = &[
        "P(A|B)",
        "P(X_n = 4)",
        "P(\\text{red})",
        "n(A \\cup B)",
        "|A \\cup B|",
        "\\lim_{x\\to 0} f(x)",
        "\\lim_{n \\to \\infty} a_n",
        "\\sum a_i",
        "\\int_0^1 f(x)\\,dx",
        "\\max f",
        "\\min_{x \\in [0,1]} f(x)",
        "\\|\\mathbf{v}\\|",
        "|\\vec{a}|",
        "\\frac{dy}{dx}",
        "f^{-1}(3)",
        "f(2)",
        "f(g(1))",
        "\\varphi(7)",
        "\\text{Var}(X)",
        "E[X]",
        "\\dim V",
        "\\deg p",
        "\\det(A)",
        "\\operatorname{rank}(A)",
        "\\#S",
        "d(P,Q)",
        "S_{\\triangle ABC}",
        "\\text{Area}",
        "AB",
        "a_{10}",
        "m+n",
        "\\overrightarrow{AB}\\cdot\\overrightarrow{AC}",
    ];
    let mut case = Case::default();
    let label = draw.one(LABELS);
    let (v, w) = draw.pair();
    let q = 2003;
    for (value, other) in [
        (v.to_string(), w.to_string()),
        (format!("\\frac{{{v}}}{{{q}}}"), format!("\\frac{{{w}}}{{{q}}}")),
        (format!("\\sqrt{{{v}}}"), format!("\\sqrt{{{w}}}")),
    ] {
        case.right(&value, Math(format!("{label} = {value}")));
        case.right(&value, Math(format!("{label}={value}")));
        case.right(&format!("${label}={value}$"), Math(value.clone()));
        case.wrong(&value, Math(format!("{label} = {other}")));
        case.wrong(&value, Math(format!("{label} = -{value}")));
        case.wrong(&format!("${label}={value}$"), Math(other));
        for sign in ["\\ne", ">", "\\le", "<"] {
            case.wrong(&value, Math(format!("{label} {sign} {value}")));
        }
    }
    case
}

pub(crate) fn equations_are_no_values(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(2, 9), draw.int(2, 9));
    let (v, w) = draw.pair();
    let value = v.to_string();
    for equation in [
        format!("{a}x+{b}y={v}"),
        format!("x^2+y^2={v}"),
        format!("x^2={v}"),
        format!("|x|={v}"),
        format!("|x-{a}|={v}"),
        format!("\\sqrt{{x}}={v}"),
        format!("\\log_{b} x={v}"),
        format!("{a}^x={v}"),
        format!("\\frac{{x}}{{{a}}}={v}"),
        format!("x^2-{a}x+{b}={v}"),
        format!("\\frac{{x^2}}{{{a}}}+\\frac{{y^2}}{{{b}}}={v}"),
    ] {
        case.wrong(&value, Math(equation.clone()));
        case.wrong(&equation, Math(value.clone()));
        case.right(&equation, Math(equation.clone()));
    }
    for equation in [format!("x^2-{a}x+{b}=0"), "ax+by=0".to_owned(), "ax+by+c=0".to_owned(), format!("{a}x-{b}y=0")] {
        case.wrong("0", Math(equation));
    }
    let gold = format!("{a}x+{b}y={v}");
    case.right(&gold, Math(format!("{v}={b}y+{a}x")));
    for wrong in [
        format!("{a}x-{b}y={v}"),
        format!("{a}x+{b}y={w}"),
        format!("{}x+{b}y={v}", a + 1),
        format!("{a}x+{b}y=-{v}"),
        format!("{a}x+{b}y<{v}"),
        format!("{a}x+{b}y"),
    ] {
        case.wrong(&gold, Math(wrong));
    }
    case
}

pub(crate) fn relations_of_unknown_functions(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(1, 9), draw.int(10, 19));
    let (p, q) = (draw.int(2, 9), draw.int(1, 9));
    let mut family = |right: &[&str], wrong: &[&str]| {
        for one in right {
            case.right(right[0], Math((*one).to_owned()));
        }
        for one in wrong {
            case.wrong(right[0], Math((*one).to_owned()));
        }
    };
    family(
        &[&format!("f({a})<f({b})"), &format!("f({b})>f({a})")],
        &[
            &format!("f({a})>f({b})"),
            &format!("f({b})<f({a})"),
            &format!("f({a})\\le f({b})"),
            &format!("f({a})<f({})", b + 1),
            &format!("f(-{a})<f({b})"),
            &format!("g({a})<f({b})"),
            &format!("f({a})=f({b})"),
        ],
    );
    family(
        &[&format!("f(x+{a})=f(x)+{q}"), &format!("f(x+{a}) = f(x) + {q}")],
        &[
            &format!("f(x+{a})=f(x)-{q}"),
            &format!("f(x+{a})=-f(x)+{q}"),
            &format!("f(x+{})=f(x)+{q}", a + 1),
            &format!("f(x+{a})=f(x)+{}", q + 1),
            &format!("f(x+{a})=g(x)+{q}"),
        ],
    );
    family(
        &[&format!("a_{{n+1}}={p}a_n+{q}"), &format!("a_{{n+1}} = {q} + {p} a_n")],
        &[
            &format!("a_{{n+1}}={p}a_n-{q}"),
            &format!("a_{{n+1}}={}a_n+{q}", p + 1),
            &format!("a_{{n+2}}={p}a_n+{q}"),
            &format!("a_{{n+1}}={p}a_{{n-1}}+{q}"),
        ],
    );
    family(
        &[&format!("f({a})=f({b})"), &format!("f({b})=f({a})")],
        &[&format!("f({a})=f({})", b + 1), &format!("f({a})\\ne f({b})"), &format!("f({a})=-f({b})")],
    );
    family(&["f(-x)=-f(x)"], &["f(-x)=f(x)", "f(x)=f(x)", "f(-x)=-g(x)"]);
    family(&["f(x+y)=f(x)+f(y)"], &["f(x+y)=f(x)f(y)", "f(x+y)=f(x)-f(y)", "f(xy)=f(x)+f(y)"]);
    family(&["P(A)>P(B)", "P(B)<P(A)"], &["P(A)<P(B)", "P(A)\\ge P(B)", "P(A)=P(B)", "P(A)>P(C)"]);
    family(
        &[&format!("f(x)=f(x+{p})"), &format!("f(x+{p})=f(x)")],
        &[&format!("f(x)=f(x+{})", p + 1), &format!("f(x)=f(x+{})", 2 * p), "f(x)=f(-x)"],
    );
    case
}

pub(crate) fn conditions_as_sets(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(1, 40), draw.int(41, 90));
    let mut family = |right: &[String], wrong: &[String]| {
        for gold in right {
            for one in right {
                case.right(gold, Math(one.clone()));
            }
            for one in wrong {
                case.wrong(gold, Math(one.clone()));
            }
        }
    };
    let c = a + 1;
    let inner = [format!("|x| \\le {a}"), format!("|x|<{a}"), format!("[-{a},{a}]"), format!("(-{a},{a})")];
    let outer = [
        format!("|x| \\ge {a}"),
        format!("|x|>{a}"),
        format!("(-\\infty,-{a}]\\cup[{a},\\infty)"),
        format!("(-\\infty,-{a})\\cup({a},\\infty)"),
    ];
    let pick = |texts: &[String; 4], ats: &[usize]| ats.iter().map(|at| texts[*at].clone()).collect::<Vec<_>>();
    let far = [format!("|x|<{c}"), format!("|x|>{c}"), format!("[-{c},{a}]"), format!("[-{a},{c})")];
    let with = |mut texts: Vec<String>, more: &[String]| {
        texts.extend_from_slice(more);
        texts
    };
    match draw.below(6) {
        0 => family(&pick(&inner, &[0, 2]), &with(with(pick(&inner, &[1, 3]), &outer), &far)),
        1 => family(&pick(&inner, &[1, 3]), &with(with(pick(&inner, &[0, 2]), &outer), &far)),
        2 => family(&pick(&outer, &[0, 2]), &with(with(pick(&outer, &[1, 3]), &inner), &far)),
        3 => family(
            &[format!("({a},{b}]"), format!("x > {a} \\text{{ and }} x \\le {b}"), format!("{a}<x\\le {b}")],
            &[
                format!("x > {a} \\text{{ or }} x \\le {b}"),
                format!("x \\ge {a} \\text{{ and }} x \\le {b}"),
                format!("x > {a} \\text{{ and }} x < {b}"),
                format!("x > {c} \\text{{ and }} x \\le {b}"),
                format!("[{a},{b})"),
            ],
        ),
        4 => family(
            &[format!("x \\ge {a}, x \\ne {b}"), format!("[{a},{b}) \\cup ({b},\\infty)")],
            &[
                format!("x > {a}, x \\ne {b}"),
                format!("x \\ge {a}, x \\ne {}", b + 1),
                format!("[{a},\\infty)"),
                format!("({a},{b}) \\cup ({b},\\infty)"),
                format!("x \\le {a}, x \\ne {b}"),
            ],
        ),
        _ => family(
            &[
                format!("x<{a}:(-\\infty,{a})"),
                format!("x<{a}"),
                format!("(-\\infty,{a})"),
                format!("\\{{x \\mid x < {a}\\}}"),
            ],
            &[
                format!("x \\le {a}"),
                format!("(-\\infty,{a}]"),
                format!("x>{a}"),
                format!("({a},\\infty)"),
                format!("x<-{a}"),
            ],
        ),
    }
    case
}

pub(crate) fn qualifiers(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(2, 20), draw.nonzero(-20, 20));
    let (body, changed, qualifier, contradicted) = match draw.below(4) {
        0 => {
            let write = |a: i64, b: i64| format!("{a}n{b:+}");
            (write(a, b), write(a, -b), "\\text{ for } n \\ge 1", None)
        }
        1 => {
            let write = |a: i64| format!("y = {a}x^2");
            (write(a), write(a + 1), "\\ (x > 0)", Some("\\ (x < 0)"))
        }
        2 => {
            let write = |a: i64| format!("\\frac{{\\pi}}{{{a}}}+k\\pi");
            (write(a), write(a + 1), "\\quad (k \\in \\mathbb{Z})", None)
        }
        _ => {
            let write = |a: i64| format!("f(x) = {a}cx");
            (write(a), write(a + 1), " \\text{ where } c \\text{ is a constant}", None)
        }
    };
    case.right(&body, Math(format!("{body}{qualifier}")));
    case.right(&format!("{body}{qualifier}"), Math(body.clone()));
    case.right(&format!("{body}{qualifier}"), Math(format!("{body}{qualifier}")));
    case.wrong(&body, Math(format!("{changed}{qualifier}")));
    case.wrong(&format!("{body}{qualifier}"), Math(changed.clone()));
    case.wrong(&format!("{body}{qualifier}"), Math(format!("{changed}{qualifier}")));
    if let Some(other) = contradicted {
        case.wrong(&format!("{body}{qualifier}"), Math(format!("{body}{other}")));
    }
    case
}

pub(crate) fn primes(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(2, 20), draw.nonzero(-20, 20));
    let prime = draw.one(&["^{\\prime}", "^\\prime", "'"]);
    let write = |prime: &str, a: i64, b: i64| format!("y{prime}={a}y{b:+}");
    let gold = write(prime, a, b);
    for other in ["^{\\prime}", "'"] {
        case.right(&gold, Math(write(other, a, b)));
        case.wrong(&gold, Math(write(other, -a, b)));
        case.wrong(&gold, Math(write(other, a, -b)));
        case.wrong(&gold, Math(write(other, a + 1, b)));
        case.wrong(&gold, Math(write(other, a, b + 1)));
    }
    case.right(&gold, Math(format!("y'{:+}={a}y", -b)));
    case.wrong(&gold, Math(write("''", a, b)));
    case.wrong(&gold, Math(write("", a, b)));
    let gold = format!("f^{{\\prime\\prime}}(x)={a}x");
    case.right(&gold, Math(format!("f''(x)={a}x")));
    case.wrong(&gold, Math(format!("f''(x)={}x", a + 1)));
    case.wrong(&gold, Math(format!("f''(x)=-{a}x")));
    case
}

pub(crate) fn indexed_roots(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(-40, -1), draw.int(0, 40));
    let letter = draw.one(&["x", "t", "z"]);
    let gold = format!("{letter}_1={a}, {letter}_2={b}");
    let writings: [fn(&str, i64, i64) -> String; 4] = [
        |x, a, b| format!("{x}_1={a}, {x}_2={b}"),
        |x, a, b| format!("{x}_{{1}} = {a}, {x}_{{2}} = {b}"),
        |x, a, b| format!("{x} = {a} \\text{{ or }} {x} = {b}"),
        |_, a, b| format!("{a}, {b}"),
    ];
    for write in writings {
        case.right(&gold, Math(write(letter, a, b)));
        case.right(&gold, Math(write(letter, b, a)));
        case.right(&write(letter, a, b), Math(gold.clone()));
        case.wrong(&gold, Math(write(letter, a - 1, b)));
        case.wrong(&gold, Math(write(letter, a, b + 1)));
        if a != -b {
            case.wrong(&gold, Math(write(letter, -a, b)));
            case.wrong(&gold, Math(write(letter, -a, -b)));
        }
    }
    case.wrong(&gold, Math(format!("{letter} = {a}")));
    case.wrong(&gold, Math(b.to_string()));
    let gold = format!("a={a}, b={b}");
    case.right(&gold, Math(format!("b={b}, a={a}")));
    case.wrong(&gold, Math(format!("a={b}, b={a}")));
    case
}

/// Golds that are no values: their own text is right, however it is spaced.
pub(crate) fn own_text(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(2, 9), draw.int(11, 19));
    let mut family = |write: &dyn Fn(i64, i64, bool) -> (String, String)| {
        let (gold, respaced) = write(a, b, true);
        case.right(&gold, Math(gold.clone()));
        case.right(&gold, Math(respaced));
        for (a, b, sign) in [(a + 1, b, true), (a, b + 1, true), (a, b, false), (-a, b, true)] {
            let (one, other) = write(a, b, sign);
            case.wrong(&gold, Math(one));
            case.wrong(&gold, Math(other));
        }
    };
    match draw.below(6) {
        0 => family(&|a, b, sign| {
            let sign = if sign { "+" } else { "-" };
            (
                format!("\\{{x \\mid x = {a}k\\pi {sign} \\frac{{\\pi}}{{{b}}}, k \\in \\mathbb{{Z}}\\}}"),
                format!("\\left\\{{x\\mid x={a}k\\pi{sign}\\dfrac{{\\pi}}{{{b}}},\\, k\\in\\mathbb{{Z}}\\right\\}}"),
            )
        }),
        1 => family(&|a, b, sign| {
            let sign = if sign { "\\parallel" } else { "\\perp" };
            (format!("l_{{{a}}} {sign} m_{{{b}}}"), format!("l_{a}{sign} m_{{{b}}}"))
        }),
        2 => family(&|a, b, sign| {
            let (f, g) = if sign { ("f", "g") } else { ("g", "f") };
            (
                format!("\\int_{{{a}}}^{{{b}}} {f}({g}(x)) \\, dx"),
                format!("\\int_{{{a}}}^{{{b}}}{f}\\left({g}(x)\\right)dx"),
            )
        }),
        3 => family(&|a, b, sign| {
            let (at, below) = if sign { ("\\ge", "<") } else { (">", "\\le") };
            (
                format!("f(x) = \\begin{{cases}} x+{a} & x {at} {b} \\\\ x-{a} & x {below} {b} \\end{{cases}}"),
                format!("f(x)=\\begin{{cases}}x+{a}&x{at} {b}\\\\x-{a}&x{below} {b}\\end{{cases}}"),
            )
        }),
        4 => family(&|a, b, sign| {
            let arrow = if sign { "\\Rightarrow" } else { "\\Leftarrow" };
            (format!("p_{{{a}}} {arrow} q_{{{b}}}"), format!("p_{{{a}}}{arrow} q_{{{b}}}"))
        }),
        _ => family(&|a, b, sign| {
            let sign = if sign { "\\forall" } else { "\\exists" };
            (format!("{sign} x > {a}, h(x) > {b}"), format!("{sign} x>{a},\\ h(x)>{b}"))
        }),
    }
    let circled = ["①", "②", "③", "④"];
    let left_out = draw.below(4);
    let write = |left_out: usize| {
        circled.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, one)| *one).collect::<String>()
    };
    let gold = write(left_out);
    case.right(&gold, Text(gold.clone()));
    case.wrong(&gold, Text(write((left_out + 1) % 4)));
    case.wrong(&gold, Text(write(4)));
    case
}
