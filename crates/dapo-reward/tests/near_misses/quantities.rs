//! Times, durations, angles, units and money.

use crate::Form::{Math, Text, Whole};
use crate::{Case, Draw};

pub(crate) fn clock_times(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (h, m) = (draw.int(1, 12), if draw.is_heads() { 0 } else { draw.int(0, 59) });
    let time = |h: i64, m: i64| format!("{h}:{m:02}");
    let others = [
        time(h % 12 + 1, m),
        time((h + 5) % 12 + 1, m),
        time(h, (m + draw.int(1, 59)) % 60),
        time(h, (m + 30) % 60),
        time(2 * h, 2 * m),
    ];
    let gold = time(h, m);
    case.right(&gold, Math(gold.clone()));
    case.right(&gold, Text(gold.clone()));
    for other in &others {
        if *other != gold {
            case.wrong(&gold, Math(other.clone()));
            case.wrong(&gold, Text(other.clone()));
        }
    }
    let half = draw.below(2);
    let write = |half: usize, style: usize| {
        ["a.m.", "am", "AM", "A.M.", "p.m.", "pm", "PM", "P.M."][4 * (half % 2) + style % 4].to_owned()
    };
    let gold = format!("{} {}", time(h, m), write(half, draw.below(4)));
    let forms = |time: &str, half: usize, style: usize| {
        [
            Math(format!("{time}\\text{{ {}}}", write(half, style))),
            Math(format!("{time} \\ \\mathrm{{{}}}", write(half, style))),
            Text(format!("{time} {}", write(half, style))),
        ]
    };
    for form in forms(&time(h, m), half, draw.below(4)) {
        case.right(&gold, form);
    }
    for form in forms(&time(h, m), half + 1, draw.below(4)) {
        case.wrong(&gold, form);
    }
    for other in others.iter().filter(|other| **other != time(h, m)) {
        let [form, _, text] = forms(other, half, draw.below(4));
        case.wrong(&gold, form);
        case.wrong(&gold, text);
    }
    let gold = format!("{h} {}", write(half, 0));
    case.right(&gold, Math(format!("{h} \\text{{ {}}}", write(half, 2))));
    case.right(&gold, Text(format!("{h}:00 {}", write(half, 0))));
    case.wrong(&gold, Text(format!("{h} {}", write(half + 1, 0))));
    case.wrong(&gold, Text(format!("{} {}", h % 12 + 1, write(half, 0))));
    case.wrong(&gold, Text(format!("{h}:{:02} {}", draw.int(1, 59), write(half, 0))));
    case
}

pub(crate) fn mixed_durations(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let plural = |n: i64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    let (h, m) = (draw.int(1, 20), draw.int(1, 59));
    let total = 60 * h + m;
    let gold = format!("{} {}", plural(h, "hour"), plural(m, "minute"));
    for form in [
        Math(format!("{total}\\text{{ minutes}}")),
        Math(format!("{h}\\text{{ hours }}{m}\\text{{ minutes}}")),
        Math(format!("{h}\\text{{ h }}{m}\\text{{ min}}")),
        Math(format!("{h} \\text{{ hours and }} {m} \\text{{ minutes}}")),
        Text(format!("{} and {}", plural(h, "hour"), plural(m, "minute"))),
        Text(format!("{total} minutes")),
    ] {
        case.right(&gold, form.clone());
        case.right(&format!("{total} minutes"), form);
    }
    for form in [
        Math(format!("{}\\text{{ minutes}}", total + 1)),
        Math(format!("{total}\\text{{ hours}}")),
        Math(format!("{total}\\text{{ seconds}}")),
        Math(format!("{h}\\text{{ hours }}{}\\text{{ minutes}}", m + 1)),
        Text(format!("{} hours {m} minutes", h + 1)),
        Text(format!("{h} hours {m} seconds")),
        Text(format!("{h} days {m} minutes")),
        Text(format!("{m} hours {} minutes", if h == m { h + 1 } else { h })),
        Text(format!("{h}{m:02} minutes")),
    ] {
        case.wrong(&gold, form);
    }
    let (feet, inches) = (draw.int(1, 9), draw.int(1, 11));
    let gold = format!("{feet} feet {inches} inches");
    case.right(&gold, Math(format!("{}\\text{{ inches}}", 12 * feet + inches)));
    case.right(&gold, Text(format!("{feet} feet and {inches} inches")));
    case.wrong(&gold, Math(format!("{}\\text{{ inches}}", 12 * feet + inches + 1)));
    case.wrong(&gold, Math(format!("{}\\text{{ inches}}", 10 * feet + inches)));
    case.wrong(&gold, Text(format!("{feet} feet {} inches", inches + 1)));
    case
}

pub(crate) fn degrees_and_minutes(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (d, k) = (draw.int(1, 89), draw.int(1, 19));
    let m = 3 * k;
    let decimal = format!("{d}.{:02}", 5 * k);
    let golds = [format!("{d}^{{\\circ}} {m}^{{\\prime}}"), format!("{d}°{m}'"), format!("{d}^\\circ {m}'")];
    for gold in golds {
        case.right(&gold, Math(gold.clone()));
        case.right(&gold, Math(format!("{decimal}^\\circ")));
        case.right(&gold, Math(format!("{d}^\\circ {m}'")));
        case.right(&gold, Text(format!("{d}°{m}′")));
        case.right(&format!("{decimal}^\\circ"), Math(gold.clone()));
        for wrong in [
            format!("{d}.{m:02}^\\circ"),
            format!("{d}^\\circ {}'", m + 1),
            format!("{}^\\circ {m}'", d + 1),
            format!("{d}^\\circ {m}''"),
            format!("{d}^\\circ"),
            format!("{}^\\circ", draw.changed_digit(&decimal)),
        ] {
            case.wrong(&gold, Math(wrong));
        }
        if d != m {
            case.wrong(&gold, Math(format!("{m}^\\circ {d}'")));
        }
    }
    case
}

pub(crate) fn values_with_a_group(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    let word = draw.one(&["apples", "square feet", "boys", "dollars", "pages per day", "cookies"]);
    let gold = format!("{v} ({word})");
    for (n, is_right) in [(v, true), (w, false)] {
        for form in [
            Math(n.to_string()),
            Math(format!("{n} \\text{{ {word}}}")),
            Text(format!("{n} {word}")),
            Text(format!("{n} ({word})")),
        ] {
            case.add(is_right, &gold, form);
        }
    }
    case.wrong(&gold, Math(format!("{v}, {w}")));
    let gold = format!("{v}/{} (pizza)", v + 1);
    case.right(&gold, Math(format!("\\frac{{{v}}}{{{}}}", v + 1)));
    case.wrong(&gold, Math(format!("\\frac{{{}}}{{{v}}}", v + 1)));
    case
}

pub(crate) fn units(draw: &mut Draw) -> Case {
    // As typed, and one that measures something else.
    const UNITS: &[(&str, &str)] = &[
        ("cm", "kg"),
        ("cm^2", "cm^3"),
        ("m/s", "m"),
        ("km/h", "km"),
        ("m/s^2", "m/s"),
        ("kg", "seconds"),
        ("hours", "dollars"),
        ("minutes", "miles"),
        ("square feet", "feet"),
        ("cubic inches", "square inches"),
        ("miles per hour", "miles"),
        ("kg/m^3", "kg"),
        ("mph", "hours"),
    ];
    // One is so many of the other.
    const CONVERSIONS: &[(&str, &str, i64)] = &[
        ("m", "cm", 100),
        ("km", "m", 1000),
        ("kg", "g", 1000),
        ("hours", "minutes", 60),
        ("minutes", "seconds", 60),
        ("feet", "inches", 12),
        ("dollars", "cents", 100),
        ("days", "hours", 24),
    ];
    let mut case = Case::default();
    let (unit, foreign) = UNITS[draw.below(UNITS.len())];
    let (v, w) = draw.pair();
    for (n, is_right) in [(v, true), (w, false)] {
        for (gold, x) in [(v.to_string(), n.to_string()), (format!("{v}\\pi"), format!("{n}\\pi"))] {
            for form in [
                Math(format!("{x}\\text{{ {unit}}}")),
                Math(format!("{x}\\ \\mathrm{{{unit}}}")),
                Math(format!("{x} {unit}")),
            ] {
                case.add(is_right, &gold, form);
            }
        }
        let gold = format!("{v} {unit}");
        for form in [Text(format!("{n} {unit}")), Math(n.to_string())] {
            case.add(is_right, &gold, form);
        }
    }
    for (n, is_right) in [(v, true), (w, false)] {
        let gold = v.to_string();
        for form in [
            Math(format!("{n}\\,\\mathrm{{N}}\\cdot\\mathrm{{m}}")),
            Math(format!("{n}\\ \\mathrm{{m\\,s^{{-1}}}}")),
            Math(format!("{n}~\\mathrm{{cm}}^{{2}}")),
        ] {
            case.add(is_right, &gold, form);
        }
    }
    case.wrong(&format!("{v} {unit}"), Text(format!("{v} {foreign}")));
    case.wrong(&format!("{v} {unit}"), Math(format!("{v}\\text{{ {foreign}}}")));
    let (large, small, factor) = CONVERSIONS[draw.below(CONVERSIONS.len())];
    let gold = format!("{v} {large}");
    case.right(&gold, Math(format!("{}\\text{{ {small}}}", v * factor)));
    case.wrong(&gold, Math(format!("{}\\text{{ {small}}}", w * factor)));
    case.wrong(&gold, Math(format!("{v}\\text{{ {small}}}")));
    case.wrong(&gold, Math(format!("{}\\text{{ {small}}}", v * factor * 10)));
    case
}

pub(crate) fn currencies(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    for (n, is_right) in [(v, true), (w, false)] {
        let gold = v.to_string();
        for form in [
            Math(format!("\\${n}")),
            Math(format!("\\text{{\\$}}{n}")),
            Math(format!("\\pounds {n}")),
            Math(format!("\\text{{Rs. }}{n}")),
            Math(format!("€{n}")),
            Math(format!("£{n}")),
            Math(format!("¥{n}")),
            Math(format!("{n}¢")),
            Math(format!("{n}\\text{{ USD}}")),
            Text(format!("USD {n}")),
            Text(format!("Rs. {n}")),
            Text(format!("{n} euros")),
            Text(format!("₹{n}")),
        ] {
            case.add(is_right, &gold, form);
        }
    }
    case.wrong(&format!("{v} dollars"), Text(format!("{v} cents")));
    case.wrong(&format!("{v} dollars"), Text(format!("{v} kg")));
    case.wrong(&format!("{v} euros"), Text(format!("{w} euros")));
    case
}

pub(crate) fn dollars_as_money(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (a, b) = (draw.int(2, 900), draw.int(901, 1999));
    let (sum, rest) = (a + b, b - a);
    let completions = [
        (format!("Together they pay ${a} + ${b} = ${sum}."), sum),
        (format!("So he has ${b} - ${a} = ${rest} left."), rest),
        (format!("The profit is ${b} - ${a} = **${rest}**."), rest),
        (format!("The answer is ${sum}."), sum),
        (format!("Answer: ${sum}"), sum),
        (format!("She had ${b} and spent ${a}.\n#### ${rest}"), rest),
        (format!("In total this makes \\boxed{{\\${sum}}}"), sum),
    ];
    for (completion, value) in completions {
        case.right(&value.to_string(), Whole(completion.clone()));
        case.right(&format!("{value}.00"), Whole(completion.clone()));
        for other in [a, b, -value, draw.near(value), sum, rest] {
            if other != value {
                case.wrong(&other.to_string(), Whole(completion.clone()));
            }
        }
    }
    case
}
