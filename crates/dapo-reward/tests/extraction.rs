//! What is found in a completion, judged from end to end, in both directions.

use dapo_reward::{Profile, Rule, Side, Verdict, VerifyConfig, verify};

fn verdict(gold: &str, completion: &str, profile: &str) -> Verdict {
    let profile: Profile = profile.parse().expect("a profile");
    verify(gold, completion, &VerifyConfig { profile, ..VerifyConfig::default() }).verdict
}

#[track_caller]
fn right(gold: &str, completions: &[&str]) {
    for completion in completions {
        assert_eq!(verdict(gold, completion, "auto"), Verdict::Correct, "{gold}: {completion}");
    }
}

#[track_caller]
fn not_right(gold: &str, completions: &[&str]) {
    for completion in completions {
        assert_ne!(verdict(gold, completion, "auto"), Verdict::Correct, "{gold}: {completion}");
    }
}

#[test]
fn an_announcement_within_what_was_announced_is_followed() {
    right(
        "24",
        &[
            "Final Answer: The final answer is $24$. I hope it is correct.",
            "Final Answer: The final answer is 24. I hope it is correct.",
            "<answer>The answer is 24.</answer>",
            "<answer>\nAnswer: 24\n</answer>",
            "<answer>\\boxed{24}</answer>",
            "\\boxed{\\text{The answer is } 24}",
            "\\boxed{\\text{The answer is 24}}",
            "\\boxed{\\text{Answer: } 24}",
            "\\boxed{\\textbf{Answer: } 24}",
            "#### The answer is 24",
            "Answer: \\boxed{24}",
            "Answer: $\\boxed{24}$ apples",
            "**Final Answer**\nThe final answer is $\\boxed{24}$.",
            "### Final Answer\nThe answer is **24**.",
            "Final Answer: The final answer is $\\boxed{24}$. I hope it is correct.",
        ],
    );
    not_right(
        "24",
        &[
            "Final Answer: The final answer is $-24$. I hope it is correct.",
            "Final Answer: The final answer is $25$. I hope it is 24.",
            "<answer>The answer is not 24.</answer>",
            "<answer>The answer is 24 or 25.</answer>",
            "\\boxed{\\text{The answer is } 42}",
            "\\boxed{\\text{The answer is not } 24}",
            "Answer: The answer is 2.4",
        ],
    );
}

#[test]
fn marks_of_tokenizers_are_no_part_of_an_answer() {
    right(
        "72",
        &[
            "The answer is 72<|im_end|>",
            "The answer is 72.<|im_end|>",
            "#### 72<|endoftext|>",
            "Answer: 72</s>",
            "\\boxed{72}<|im_end|>",
            "<|begin_of_box|>72<|end_of_box|>",
            "so <|begin_of_box|>$72$<|end_of_box|>.",
            "72<|eot_id|>",
            "The answer is 72<end_of_turn>",
            "The answer is **72**<|im_end|>\n<|im_start|>user\nThe answer: thanks",
            "Answer: 72<|im_end|>\n",
        ],
    );
    not_right("72", &["The answer is 73<|im_end|>", "<|begin_of_box|>7<|end_of_box|>2", "The answer is 7<|2|>"]);
}

#[test]
fn several_boxes_or_formulas_are_one_list() {
    right(
        "3, 5, 7",
        &[
            "\\boxed{3}, \\boxed{5}, \\boxed{7}",
            "$\\boxed{3}$, $\\boxed{5}$ and $\\boxed{7}$.",
            "The primes are $3$, $5$, and $7$.",
        ],
    );
    right("1331, 1728", &["\\boxed{1331} and \\boxed{1728}"]);
    right(
        "1, 2",
        &[
            "The solutions are $1$ and $2$.",
            "so $x = 1$ or $x = 2$.",
            "\\(1\\) and \\(2\\)",
            "$x_1 = \\boxed{1}$, $x_2 = \\boxed{2}$",
        ],
    );
    right(
        "5",
        &[
            "\\boxed{4}, then \\boxed{5}",
            "\\boxed{5}\n\n\\boxed{5}",
            "we get \\boxed{5}, \\boxed{5}",
            "since $x > 0$, $x = 5$.",
            "So $4 + 1$ is $5$.",
        ],
    );
    not_right(
        "5",
        &[
            "\\boxed{4} or \\boxed{5}",
            "\\boxed{3}, \\boxed{5}",
            "Either $3$, $4$ or $5$.",
            "It could be $5$, $6$ or $7$.",
            "$4$ or $5$",
        ],
    );
    not_right("3, 5, 7", &["\\boxed{3}, \\boxed{5}", "\\boxed{3}, \\boxed{5}, \\boxed{8}", "$3$, $5$ and $-7$"]);
    not_right("1728", &["\\boxed{1331} and \\boxed{1728}"]);
}

#[test]
fn dollars_before_amounts_are_money() {
    right(
        "70000",
        &["So $200,000 - $130,000 = $70,000", "So $200,000 - $130,000 = **$70,000**.", "The profit is $70,000."],
    );
    right("75000", &["- Total: 10 * $2,500 = $25,000\n- Pension: $50,000 + $25,000 = $75,000"]);
    right(
        "18",
        &[
            "She sells 9 eggs at $2 each, so the answer is $18.",
            "Answer: $18",
            "#### $18",
            "The answer is $18 per day.",
            "\\boxed{\\$18}",
        ],
    );
    not_right("130000", &["So $200,000 - $130,000 = $70,000"]);
    not_right(
        "5",
        &["It costs between $5 and $10.", "either $4 or $5", "not $5.", "She pays $5 for it and gets $3 back."],
    );
    not_right("70000", &["So $200,000 - $130,000 = $60,000", "The profit is $-70,000$."]);
    right("x^2", &["we pay $5 for it and get $x^2$.", "so $f = x^2$."]);
}

#[test]
fn the_last_explicit_announcement_decides() {
    right(
        "D",
        &[
            "So $\\boxed{\\langle H\\rangle}$ holds.\n\n**Answer: D**",
            "\\boxed{A}\n#### D",
            "<answer>A</answer>\nno: \\boxed{D}",
            "#### A\nAnswer: D",
        ],
    );
    right(
        "4",
        &[
            "Answer: 3\nso \\boxed{4}",
            "\\boxed{4}\n\nAnswer: see above",
            "\\boxed{4}\n\n**Answer:**",
            "\\boxed{4}\nAnswer: The farmer has that many of them in the end.",
        ],
    );
    not_right("3", &["Answer: 3\nso \\boxed{4}", "\\boxed{3}\n**Answer: 4**"]);
}

#[test]
fn choice_letters_are_met_in_many_ways() {
    right(
        "D",
        &[
            "d",
            "\\boxed{d}",
            "(d)",
            "D - 12",
            "d. 12",
            "The correct answer is d.",
            "The answer is (D)",
            "Answer: D) twelve",
            "\\boxed{\\text{(d)}}",
            "***ANSWER***: ***D***",
            "*Answer*: *D*",
        ],
    );
    right("ABD", &["\\boxed{A, B, D}", "\\boxed{ABD}", "Answer: A, B and D", "The answer is A, B, D."]);
    right("A, C", &["\\boxed{AC}", "\\boxed{A \\text{ and } C}", "Answer: A and C"]);
    right("C. {x \\mid-3<x<4}", &["\\boxed{C}", "Answer: C"]);
    not_right(
        "D",
        &["c", "\\boxed{c}", "C - 12", "(b) 12", "D or C", "\\boxed{C, D}", "dog", "Answer: not D", "\\boxed{CD}"],
    );
    not_right("ABD", &["\\boxed{A, B}", "\\boxed{ABC}", "\\boxed{A, B, C, D}", "\\boxed{A, B \\text{ or } D}"]);
    not_right("A", &["Not A.", "A or B", "a dog"]);
    not_right("C. {x \\mid-3<x<4}", &["\\boxed{D}", "\\boxed{c + 1}"]);
}

#[test]
fn the_choice_profile_takes_no_words_and_nothing_denied() {
    let right = |gold: &str, text: &str| verdict(gold, text, "choice") == Verdict::Correct;
    for (gold, text) in [
        ("D", "d"),
        ("D", "The correct answer is d."),
        ("B", "b. 4"),
        ("D", "d) because"),
        ("C", "The answer is C because I computed it."),
        ("B", "I first thought A. But it has to be B."),
        ("ABD", "Answer: A, B, D"),
        ("A, B, D", "Answer: ABD"),
        ("AB", "a, b"),
        ("I", "Answer: I"),
        ("D", "Answer: **D**"),
        ("D", "*ANSWER*: *D*"),
        ("C", "A. 4\nB. 5\nC. 6\n\nAnswer: C"),
        ("D", "答案：D"),
        ("D", "### Answer\nD"),
        ("D", "\\boxed{D}"),
    ] {
        assert!(right(gold, text), "{gold}: {text}");
    }
    for (gold, text) in [
        ("I", "ANSWER: I don't know"),
        ("I", "I do not know."),
        ("A", "Not A."),
        ("A", "ANSWER: None of the above"),
        ("A", "The answer is A or B."),
        ("B", "The answer is A or B."),
        ("A", "It isn't A."),
        ("A", "neither A nor B"),
        ("B", "neither A nor B"),
        ("A", "A is incorrect."),
        ("A", "A car moves."),
        ("A", "Answer: a car"),
        ("D", "Answer: c"),
        ("AB", "Answer: A"),
        ("A", "Answer: AB"),
        ("A, B, D", "A"),
        ("E", "e.g. this"),
        ("A", "The answer is not A but B."),
        ("I", "The answer is I think 5."),
        ("A", "N/A"),
        ("A", "There is a B. Answer: B"),
    ] {
        assert!(!right(gold, text), "{gold}: {text}");
    }
}

#[test]
fn the_value_in_a_sentence_is_told_from_the_rest() {
    right(
        "72",
        &[
            "The answer is 72 in total.",
            "The answer is 72, in total.",
            "The answer is 72 — done.",
            "The answer is approximately 72.",
            "The answer is $72$!",
            "The answer is 72!",
            "The answer is 72 (eggs).",
            "The answer is **72** eggs in all.",
            "The answer is therefore $72$.",
            "Answer: 72 in total",
            "Answer: about 72",
            "<answer>72 in total</answer>",
            "#### 72 in total",
            "The answer to the problem is 72.",
            "The answers is 72, as shown.",
            "The final answer is simply 72; thanks.",
            "The answer is a total of 72 eggs.",
            "The answer would be 72.",
            "So the answer must be 72 eggs!",
            "The answer is: 72 ✅",
            "The answer is clear: we get $72$.",
            "The answer = 72",
            "The answer is exactly $72$ dollars.",
            "The answer is 72, I believe.",
            "The answer is 72 and that is final.",
        ],
    );
    not_right(
        "72",
        &[
            "The answer is 72 or 73.",
            "The answer is not 72.",
            "The answer is between 71 and 72.",
            "The answer is at least 72.",
            "The answer is less than 72.",
            "The answer is 72 million.",
            "The answer is 72 and 73.",
            "The answer is 72, 73.",
            "The answer is twice $72$.",
            "The answer is the square root of $72$.",
            "The answer is 72 dollars and 50 cents.",
            "The answer is 73 in total.",
            "The answer is -72 in total.",
            "The answer is 72.5 in total.",
            "The answer is 72 or more.",
            "The answer is 72 is wrong.",
            "The answer is one more than $72$.",
            "The answer is 72 to 75 eggs.",
            "The answer isn't 72.",
            "The answer is 72 plus tax.",
            "The answer is not $72$ but $73$.",
            "The answer is $72$ times $2$.",
            "The answer is 72% of 50.",
            "The answer is 172, in total.",
            "The answer is 7 2 in total.",
            "Answer: 72 is a common guess, but it is not.",
            "The answer is 72/5 in total.",
            "The answer is unlikely to be 72.",
            "The answer is 72x in total.",
        ],
    );
    right("5 hours", &["The answer is 5 hours in total.", "The answer is 300 minutes, in total."]);
    not_right("5 hours", &["The answer is 5 minutes in total."]);
    right("[2,5)", &["The answer is the interval $[2,5)$.", "The answer is [2,5) as shown."]);
    not_right("[2,5)", &["The answer is the interval $[2,5]$.", "The answer is $[2,5)$ or $(5,6)$."]);
    right("3, 4", &["The answers are $3$ and $4$, respectively.", "The answers are 3 and 4."]);
    right("7 habits of people", &["The answer is 7 habits of people."]);
    right("120", &["\\boxed{5!}", "Answer: 5!", "The answer is 5! ways."]);
    not_right("5", &["The answer is 5! ways.", "The answer is **not** $5$.", "The answer is the prime after 5."]);
}

#[test]
fn headings_announce() {
    right(
        "73",
        &[
            "### Final Answer\n\n**73**",
            "## Answer\n73",
            "**Final Answer**\n\n73",
            "Final Answer\n\n$73$",
            "#### Final Answer\n73",
            "### Answer:\n73",
            "## Final Answer\n\\[ 73 \\]\n",
            "# Answer\n\nThe answer is 73.",
            "### ✅ Final Answer\n**73**\n\nDone.",
            "✅ Final Answer: **73**",
            "***ANSWER***: ***73***",
            "#### Answer: 73",
            "#### Step 4: Sum\nso we get $73$",
        ],
    );
    not_right("73", &["### Final Answer\n\n**-73**", "## Answer\n74\n## Check\n73", "### Answer\n73 or 74"]);
}

#[test]
fn golds_are_read_from_their_announcements() {
    right("Answer: it would take 180 days.\nTherefore, the answer is: 180.", &["\\boxed{180}"]);
    right("Therefore the value is $\\boxed 5$.", &["\\boxed{5}", "\\boxed 5", "$\\boxed5$"]);
    right("The solution is $x = 3$.", &["\\boxed{3}"]);
    right("The answer is 12.", &["\\boxed{12}"]);
    right("### Answer\n12", &["\\boxed{12}"]);
    right("答案：12", &["\\boxed{12}"]);
    not_right("The answer is 12.", &["\\boxed{-12}", "\\boxed{1}"]);
    not_right("all even $n$", &["\\boxed{n}"]);
}

#[test]
fn announcements_in_other_scripts() {
    right(
        "18",
        &[
            "所以答案是 18。",
            "答案：18",
            "答案为18",
            "最终答案：**18**",
            "最终答案是：18。",
            "【答案】18",
            "Final Answer：18",
            "答案: $18$。",
            "因此，答案是 \\boxed{18}。",
        ],
    );
    not_right("18", &["所以答案是 81。", "答案：-18", "答案是 18 或 19。", "答案不是 18。"]);
}

#[test]
fn a_gold_that_cannot_be_read_is_met_by_its_own_text() {
    let gold = "\\int_{0}^{1} f(x)^2\\,dx";
    let found = verify(gold, "so \\boxed{\\int_0^1 f(x)^{2} dx}", &VerifyConfig::default());
    assert_eq!((found.verdict, found.rule), (Verdict::Correct, Rule::Text));
    assert_eq!(found.extracted.map(|found| found.span.len()), Some(20));
    for completion in [
        "\\boxed{\\int_0^1 f(x)^3 dx}",
        "\\boxed{-\\int_0^1 f(x)^2 dx}",
        "\\boxed{\\int_0^2 f(x)^2 dx}",
        "\\boxed{5}",
        "",
        "no idea",
    ] {
        assert_eq!(verdict(gold, completion, "auto"), Verdict::Unparsable(Side::Gold), "{completion}");
    }
    right("\\textcircled{1}\\textcircled{3}", &["\\boxed{①③}", "Answer: ①③"]);
    not_right("①③", &["\\boxed{①④}", "\\boxed{①}"]);
    right("\\{x|x=3k,k\\in \\mathbb{Z}\\}", &["\\boxed{\\left\\{x|x=3k,\\, k\\in\\mathbb{Z}\\right\\}}"]);
}

#[test]
fn an_unfinished_thought_gives_no_answer() {
    not_right("3", &["<think> so \\boxed{3} maybe, let me check", "<think>\nThe answer is 3"]);
    right("3", &["<think> so \\boxed{4}? no </think> \\boxed{3}", "so \\boxed{3}"]);
}
