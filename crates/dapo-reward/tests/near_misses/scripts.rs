//! Chinese and full-width text, superscripts and subscripts, and choice letters.

use crate::Form::{Choice, Math, Text, Whole};
use crate::{Case, Draw};

fn full_width(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() { char::from_u32(c as u32 + 0xfee0).unwrap_or(c) } else { c })
        .collect()
}

pub(crate) fn chinese_and_full_width(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    let gold = v.to_string();
    let unit = draw.one(&["元", "人", "个", "千米", "平方厘米", "岁", "天", "小时", "只"]);
    for (n, is_right) in [(v, true), (w, false)] {
        let wide = full_width(&n.to_string());
        for form in [
            Math(format!("{n}{unit}")),
            Math(format!("{n} {unit}")),
            Math(format!("{n}\\text{{{unit}}}")),
            Math(wide.clone()),
            Math(format!("x＝{wide}")),
            Whole(format!("所以答案是 {n}。")),
            Whole(format!("答案：{n}")),
            Whole(format!("最终答案：{n}{unit}")),
            Whole(format!("故答案为：{n}．")),
            Whole(format!("答案为{n}{unit}。")),
            Whole(format!("因此，答案是$\\boxed{{{n}}}$。")),
        ] {
            case.add(is_right, &gold, form);
        }
    }
    case.wrong(&gold, Whole(format!("答案不是{v}。")));
    case.wrong(&gold, Whole(format!("答案是{v}或{w}。")));
    case.wrong(&gold, Math(format!("{v}万")));
    case.wrong(&gold, Whole(format!("答案是{v}万元。")));
    case.wrong(&format!("{v}米"), Math(format!("{v}千克")));
    let decimal = format!("{v}.{}", draw.int(1, 9));
    case.right(&decimal, Math(full_width(&decimal)));
    case.wrong(&decimal, Math(full_width(&draw.changed_digit(&decimal))));
    let pair = format!("({v},{w})");
    case.right(&pair, Math(full_width(&pair)));
    case.wrong(&pair, Math(full_width(&format!("({w},{v})"))));
    let letter = draw.below(4);
    let names = ["A", "B", "C", "D"];
    case.right(names[letter], Whole(format!("正确答案是{}。", names[letter])));
    case.wrong(names[letter], Whole(format!("正确答案是{}。", names[(letter + 1) % 4])));
    case
}

pub(crate) fn superscripts_and_subscripts(draw: &mut Draw) -> Case {
    const RAISED: [&str; 10] = ["⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"];
    const LOWERED: [&str; 10] = ["₀", "₁", "₂", "₃", "₄", "₅", "₆", "₇", "₈", "₉"];
    let mut case = Case::default();
    let (a, n) = (draw.int(2, 9), draw.int(2, 9));
    let (at, other) = (n as usize, (n as usize + 1) % 10);
    case.right(&format!("{a}^{{{n}}}"), Math(format!("{a}{}", RAISED[at])));
    case.right(&format!("{a}^{{-{n}}}"), Math(format!("{a}⁻{}", RAISED[at])));
    case.right(&format!("x^{n}"), Math(format!("x{}", RAISED[at])));
    case.wrong(&format!("{a}^{{{n}}}"), Math(format!("{a}{}", RAISED[other])));
    case.wrong(&format!("{a}^{{{n}}}"), Math(format!("{a}⁻{}", RAISED[at])));
    case.wrong(&format!("{a}^{{-{n}}}"), Math(format!("{a}{}", RAISED[at])));
    case.wrong(&format!("x^{n}"), Math(format!("x{}", RAISED[other])));
    case.right(&format!("a_{n}+b"), Math(format!("a{}+b", LOWERED[at])));
    case.wrong(&format!("a_{n}+b"), Math(format!("a{}+b", LOWERED[other])));
    let gold = format!("x_1={a}, x_2=-{n}");
    case.right(&gold, Math(format!("x₁={a}, x₂=-{n}")));
    case.wrong(&gold, Math(format!("x₁={a}, x₂={n}")));
    case
}

pub(crate) fn choice_letters(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let letters = ["A", "B", "C", "D", "E", "F"];
    let at = draw.below(5);
    let (gold, other) = (letters[at], letters[(at + 1 + draw.below(4)) % 5]);
    for (letter, is_right) in [(gold, true), (other, false)] {
        let lower = letter.to_lowercase();
        for form in [
            Math(letter.to_owned()),
            Math(format!("\\text{{({letter})}}")),
            Math(lower.clone()),
            Math(format!("\\text{{{letter}. }} 12")),
            Text(format!("({letter})")),
            Text(format!("({lower})")),
            Text(format!("{letter}) photosynthesis")),
            Text(format!("{letter}: the second law")),
            Whole(format!("The correct answer is {lower}.")),
            Whole(format!("Answer: {letter} - 12")),
            Whole(format!("**Answer: {letter}**")),
            Whole(format!("The side is \\boxed{{12}}.\n\n**Answer: {letter}**")),
            Choice(format!("The best answer is ({letter}).")),
            Choice(format!("The answer is {letter} because a plant grows.")),
            Choice(format!("The correct answer is {lower}.")),
            Choice(lower.clone()),
            Choice(format!("{lower}. 12 cm")),
        ] {
            case.add(is_right, gold, form);
        }
    }
    for form in [
        Text(format!("{gold} or {other}")),
        Text(format!("{other} or {gold}")),
        Text(format!("not {gold}")),
        Math(format!("\\{{{gold}, {other}\\}}")),
        Whole(format!("\\boxed{{{gold}}} seems right, but it is not.\n\nAnswer: {other}")),
        Choice(format!("It is not {gold}.")),
        Choice(format!("The answer cannot be {gold}.")),
        Choice(format!("The answer is {other}. Note that {gold} is a common mistake.")),
        Choice(format!("Answer: neither {gold} nor {other}")),
    ] {
        case.wrong(gold, form);
    }
    case.wrong("I", Choice("ANSWER: I don't know".to_owned()));
    case.wrong("I", Choice("I am not sure.".to_owned()));
    case.wrong("A", Choice("A plant grows.".to_owned()));
    case
}

pub(crate) fn lists_of_choice_letters(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let letters = ["A", "B", "C", "D", "E"];
    let left_out = draw.below(5);
    let mut kept: Vec<&str> = (0..5).filter(|at| *at != left_out).map(|at| letters[at]).collect();
    if draw.is_heads() {
        kept.pop();
    }
    let write = |letters: &[&str], style: usize| {
        let (last, rest) = letters.split_last().expect("a letter");
        match style {
            0 => Math(letters.join(", ")),
            1 => Math(letters.concat()),
            2 => Text(format!("{} and {last}", rest.join(", "))),
            3 => Math(format!("\\text{{{}}}", letters.join("、"))),
            _ => Text(letters.join(", ")),
        }
    };
    let gold = kept.concat();
    for style in 0..5 {
        case.right(&gold, write(&kept, style));
        case.wrong(&gold, write(&kept[1..], style));
        let mut more = kept.clone();
        more.push("F");
        case.wrong(&gold, write(&more, style));
        let mut changed = kept.clone();
        changed[0] = letters[left_out];
        case.wrong(&gold, write(&changed, style));
    }
    case
}
