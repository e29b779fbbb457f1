//! Values with an approximation, and chains of equalities.

use crate::Form::{Math, Whole};
use crate::{Case, Draw};

pub(crate) fn leading_approximation_signs(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let decimal = format!("{}.{:02}", draw.int(1, 99), draw.int(1, 99));
    let changed = draw.changed_digit(&decimal);
    let sign = draw.one(&["\\approx ", "≈", "\\approx", "≈ ", "\\sim "]);
    let gold = format!("{sign}{decimal}");
    for (x, is_right) in [(&decimal, true), (&changed, false)] {
        for form in [Math(x.clone()), Math(format!("{sign}{x}")), Math(format!("\\approx {x} \\text{{ cm}}"))] {
            case.add(is_right, &gold, form.clone());
            case.add(is_right, &decimal, form);
        }
    }
    case.right(&decimal, Whole(format!("The answer is approximately {decimal}.")));
    case.wrong(&decimal, Whole(format!("The answer is approximately {changed}.")));
    case.wrong(&format!("{gold}\\text{{ cm}}"), Math(format!("\\approx {decimal}\\text{{ kg}}")));
    case
}

pub(crate) fn approximations_after_exact_values(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (p, q) = (draw.int(1, 900), [7, 11, 13, 17][draw.below(4)]);
    let p = if p % q == 0 { p + 1 } else { p };
    let other = if (p + 1) % q == 0 { p + 2 } else { p + 1 };
    let fraction = |p: i64| format!("\\frac{{{p}}}{{{q}}}");
    let decimal = |p: i64| format!("{:.4}", p as f64 / q as f64);
    let gold = fraction(p);
    for sign in ["\\approx", "≈"] {
        case.right(&gold, Math(format!("{gold} {sign} {}", decimal(p))));
        case.wrong(&gold, Math(format!("{} {sign} {}", fraction(other), decimal(other))));
        case.wrong(&gold, Math(format!("{} {sign} {}", fraction(other), decimal(p))));
    }
    case.right(&gold, Math(format!("x = {gold} \\approx {}", decimal(p))));
    let (a, b) = (draw.int(2, 30), [2, 3, 5, 7][draw.below(4)]);
    let root = |a: i64| format!("{a}\\sqrt{{{b}}}");
    let near = |a: i64| format!("{:.3}", a as f64 * f64::from(b).sqrt());
    case.right(&root(a), Math(format!("{} \\approx {}", root(a), near(a))));
    case.wrong(&root(a), Math(format!("{} \\approx {}", root(a + 1), near(a + 1))));
    case
}

pub(crate) fn chained_equalities(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(2, 40), draw.int(2, 40));
    let label = draw.one(&["", "x = ", "P = ", "S_{\\triangle ABC} = ", "\\text{Total} = "]);
    for (steps, value) in
        [(format!("{a} \\cdot {b}"), a * b), (format!("{a}+{b}"), a + b), (format!("2({a}+{b})"), 2 * (a + b))]
    {
        let wrong = draw.near(value);
        let chain = format!("{label}{steps} = {value}");
        case.right(&value.to_string(), Math(chain.clone()));
        case.wrong(&wrong.to_string(), Math(chain));
        case.wrong(&wrong.to_string(), Math(format!("{label}{steps} = {wrong}")));
        case.wrong(&value.to_string(), Math(format!("{label}{steps} = {wrong}")));
    }
    let (p, q) = (draw.int(1, 20), draw.int(2, 9));
    let scaled = format!("\\frac{{{}}}{{{}}}", p * b, q * b);
    let (gold, other) = (format!("\\frac{{{p}}}{{{q}}}"), format!("\\frac{{{}}}{{{q}}}", p + 1));
    case.right(&gold, Math(format!("{label}{scaled} = {gold}")));
    case.wrong(&gold, Math(format!("{label}{scaled} = {other}")));
    case.wrong(&other, Math(format!("{label}{scaled} = {other}")));
    case.wrong(&p.to_string(), Math(format!("{label}{scaled} = {p}")));
    case
}
