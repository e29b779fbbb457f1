//! How an answer is announced: nested, repeated, corrected, surrounded by prose, or not at all.

use crate::Form::{Math, Text, Whole};
use crate::{Case, Draw, joined};

pub(crate) fn announcements_inside(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (value, other) = draw.value();
    for (x, is_right) in [(&value, true), (&other, false)] {
        for completion in [
            format!("<answer>The final answer is ${x}$.</answer>"),
            format!("<answer>Final answer: {x}</answer>"),
            format!("<answer>\\boxed{{{x}}}</answer>"),
            format!("Answer: The answer is ${x}$."),
            format!("Answer: $\\boxed{{{x}}}$"),
            format!("#### The answer is ${x}$"),
            format!("\\boxed{{\\text{{The answer is }} {x}}}"),
            format!("\\boxed{{\\textbf{{Answer: }} {x}}}"),
            format!("Final Answer: The final answer is ${x}$. I hope it is correct."),
            format!("Final Answer: The final answer is $\\boxed{{{x}}}$. I hope it is correct."),
            format!("So $y+1=7$.\nFinal Answer: The final answer is {x}. I hope it is correct."),
            format!("The answer is: $$\\boxed{{{x}}}$$"),
        ] {
            case.add(is_right, &value, Whole(completion));
        }
    }
    let (v, w) = draw.pair();
    case.wrong(&v.to_string(), Whole(format!("<answer>The answer is {v} or {w}.</answer>")));
    case.wrong(&v.to_string(), Whole(format!("<answer>The answer is not {v}.</answer>")));
    case
}

pub(crate) fn several_boxes(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let count = 2 + draw.below(3);
    let start = draw.int(-30, 30);
    let step = draw.int(2, 9);
    let items: Vec<i64> = (0..count as i64).map(|i| start + i * step).collect();
    let gold = joined(&items, ", ");
    let label = draw.one(&["", "x = ", "x="]);
    let write = |items: &[i64], style: usize| {
        let one = |n: &i64| {
            if style.is_multiple_of(2) { format!("$\\boxed{{{label}{n}}}$") } else { format!("${label}{n}$") }
        };
        let pieces: Vec<String> = items.iter().map(one).collect();
        let (last, rest) = pieces.split_last().expect("an item");
        match (style / 2 % 4, rest.is_empty()) {
            (_, true) => format!("The solution is {last}."),
            (0, _) => format!("The solutions are {} and {last}.", rest.join(", ")),
            (1, _) => format!("The solutions are {}, and {last}.", rest.join(", ")),
            (2, _) => format!("Therefore {}; {last}", rest.join("; ")),
            _ => format!("So {} or {last}.", rest.join(" or ")),
        }
    };
    let style = draw.below(8);
    case.right(&gold, Whole(write(&items, style)));
    for at in 0..count {
        let mut changed = items.clone();
        changed[at] += 1;
        case.wrong(&gold, Whole(write(&changed, style)));
        changed.remove(at);
        case.wrong(&gold, Whole(write(&changed, style)));
        case.wrong(&items[at].to_string(), Whole(write(&items, style)));
    }
    let (v, w) = draw.pair();
    let retried = format!("First we count \\boxed{{{w}}} of them. With the others there are \\boxed{{{v}}} in all.");
    case.right(&v.to_string(), Whole(retried.clone()));
    case.wrong(&w.to_string(), Whole(retried));
    case
}

pub(crate) fn last_announcements(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    let write = |n: i64, how: usize| match how % 4 {
        0 => format!("So we have \\boxed{{{n}}}."),
        1 => format!("**Answer:** {n}"),
        2 => format!("#### {n}"),
        _ => format!("<answer>{n}</answer>"),
    };
    let (first, second) = (draw.below(4), draw.below(4));
    let between = draw.one(&["\n\nThis left out two of them.\n\n", "\nWait, that is before the discount.\n"]);
    let completion = format!("{}{between}{}", write(w, first), write(v, second));
    case.right(&v.to_string(), Whole(completion.clone()));
    case.wrong(&w.to_string(), Whole(completion));
    case
}

pub(crate) fn headings(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (value, other) = draw.value();
    for (x, is_right) in [(&value, true), (&other, false)] {
        for completion in [
            format!("We add $1+1$.\n\n## Answer\n${x}$"),
            format!("We add.\n\n### Final Answer\n\n**${x}$**"),
            format!("We add $1+1$.\n\n**Answer**\n\n${x}$"),
            format!("**Final Answer**\n\n{x}"),
            format!("# Final Answer\n\n\\[\n{x}\n\\]"),
            format!("## Answer\n\nThe answer is ${x}$."),
        ] {
            case.add(is_right, &value, Whole(completion));
        }
        let gold = format!("Therefore, the answer is: {x}.");
        case.add(is_right, &gold, Math(value.clone()));
    }
    case
}

pub(crate) fn text_and_tokens_after(draw: &mut Draw) -> Case {
    const TAILS: &[&str] = &[
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "</s>",
        "<end_of_turn>",
        "<｜end▁of▁sentence｜>",
        "\n\nLet me know if you have any questions!",
        "\n\nThis means that everyone gets the same.",
        "\n",
    ];
    let mut case = Case::default();
    let (value, other) = draw.value();
    for tail in TAILS {
        for (x, is_right) in [(&value, true), (&other, false)] {
            for completion in [
                format!("#### {x}{tail}"),
                format!("Answer: ${x}${tail}"),
                format!("The answer is ${x}$.{tail}"),
                format!("\\boxed{{{x}}}{tail}"),
                format!("<answer>{x}</answer>{tail}"),
                format!("<|begin_of_box|>{x}<|end_of_box|>{tail}"),
            ] {
                case.add(is_right, &value, Whole(completion));
            }
        }
    }
    case
}

pub(crate) fn emphasis(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (value, other) = draw.pair();
    let at = draw.below(4);
    let letters = ["A", "B", "C", "D"];
    for (gold, wrong) in [
        (value.to_string(), other.to_string()),
        (value.to_string(), (-value).to_string()),
        (letters[at].to_owned(), letters[(at + 1) % 4].to_owned()),
    ] {
        for (x, is_right) in [(&gold, true), (&wrong, false)] {
            for completion in [
                format!("***ANSWER***: ***{x}***"),
                format!("*Answer:* *{x}*"),
                format!("**ANSWER:** **{x}**"),
                format!("__Answer__: __{x}__"),
                format!("**Final Answer**: *{x}*"),
                format!("*ANSWER*: **{x}**."),
            ] {
                case.add(is_right, &gold, Whole(completion));
            }
        }
    }
    case
}

pub(crate) fn boxes_without_braces(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = (draw.int(0, 9), draw.int(0, 9));
    let space = draw.one(&[" ", ""]);
    let gold = format!("Therefore it is $\\boxed{space}{v}$.");
    case.right(&gold, Math(v.to_string()));
    case.right(&v.to_string(), Whole(gold.clone()));
    if v != w {
        case.wrong(&gold, Math(w.to_string()));
        case.wrong(&w.to_string(), Whole(gold.clone()));
        case.wrong(&w.to_string(), Whole(format!("From ${w}$ we get $\\boxed{space}{v}$.")));
    }
    case.wrong(&gold, Math(format!("{v}{}", w + 1)));
    case
}

pub(crate) fn prose_around_values(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    let gold = v.to_string();
    let wordings: [fn(i64) -> String; 15] = [
        |n| format!("The answer is {n} in total."),
        |n| format!("The answer is {n}, in total."),
        |n| format!("The answer is {n} altogether."),
        |n| format!("The answer is exactly {n}."),
        |n| format!("The answer is therefore {n}."),
        |n| format!("The answer is about {n}."),
        |n| format!("The answer is {n} which can be checked."),
        |n| format!("The answer is {n} (eggs)."),
        |n| format!("The answer is {n} — done."),
        |n| format!("The answer is {n}; we are finished."),
        |n| format!("The answer is **{n}** cookies."),
        |n| format!("The answer is ${n}$!"),
        |n| format!("The answer is {n}!"),
        |n| format!("The answer is {n} because each box is full."),
        |n| format!("The answer is ${n}$ of the apples."),
    ];
    for wording in wordings {
        case.right(&gold, Whole(wording(v)));
        case.wrong(&gold, Whole(wording(w)));
    }
    // Once a value is the value.
    let w = if w == 1 { v + 2 } else { w };
    for wrong in [
        format!("The answer is {v} or {w}."),
        format!("The answer is {w} or {v}."),
        format!("The answer is not {v}."),
        format!("The answer isn't {v}."),
        format!("The answer is between {v} and {w}."),
        format!("The answer is at least {v}."),
        format!("The answer is more than {v}."),
        format!("The answer is less than {v}."),
        format!("The answer is up to {v}."),
        format!("The answer is {v} more than {w}."),
        format!("The answer is {v} less than {w}."),
        format!("The answer is {v} times {w}."),
        format!("The answer is {v} minus {w}."),
        format!("The answer is {v} divided by {w}."),
        format!("The answer is {v} squared."),
        format!("The answer is {v} thousand."),
        format!("The answer is {v} million dollars."),
        format!("The answer is {v} to {w}."),
        format!("The answer is twice {v}."),
        format!("The answer is half of {v}."),
        format!("The answer is negative {v}."),
        format!("The answer is never {v}."),
        format!("The answer is {v} and {w}."),
        format!("The answer is {v} plus {w}."),
        format!("The answer is {v} multiplied by {w}."),
        format!("The answer is {v} over {w}."),
        format!("The answer is {v} cubed."),
        format!("The answer is {v} hundred."),
        format!("The answer is {v} billion."),
        format!("The answer is neither {v} nor {w}."),
        format!("The answer is not equal to {v}."),
        format!("The answer is less than or equal to {v}."),
        format!("The answer is over {v}."),
        format!("The answer is the square root of {v}."),
        format!("The answer is close to {v} but larger."),
        format!("The answer is anything but {v}."),
        format!("The answer is {v} percent of {w}."),
    ] {
        case.wrong(&gold, Whole(wrong));
    }
    case.wrong("120", Whole("The answer is $5$!".to_owned()));
    case.right("120", Whole("The answer is $5!$.".to_owned()));
    case
}

pub(crate) fn hedges(draw: &mut Draw) -> Case {
    let mut case = Case::default();
    let (v, w) = draw.pair();
    let gold = v.to_string();
    case.right(&gold, Math(gold.clone()));
    for form in [
        Math(format!("{v} \\text{{ or }} {w}")),
        Math(format!("{w}, {v}")),
        Math(format!("{v}, {w}")),
        Math(format!("\\{{{v}, {w}\\}}")),
        Math(format!("{v} \\pm 1")),
        Math(format!("\\ne {v}")),
        Math(format!("> {v}")),
        Math(format!("x \\ge {v}")),
        Math(format!("[{v},{v}]")),
        Math(format!("{v} \\text{{ or more}}")),
        Text(format!("{v} or {w}")),
        Text(format!("either {w} or {v}")),
        Text(format!("at most {v}")),
        Text(format!("not {v}")),
        Whole(format!("Maybe it is {w}, maybe it is {v}. I cannot decide.")),
        Whole(format!("Either ${w}$ or ${v}$.")),
        Whole(format!("The answer could be ${w}$ or ${v}$.")),
        Whole(format!("It is \\boxed{{{w}}} or \\boxed{{{v}}}.")),
    ] {
        case.wrong(&gold, form);
    }
    case
}
