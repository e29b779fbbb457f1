//! Sums of rewards: which are refused, what abstentions and weights do, and faults of a user's function.

use dapo_reward::{
    Accuracy, GroupReward, OnAbstain, ProportionalOverlong, RewardError, RewardFault, RewardFn, RewardInput, RewardSum,
    RewardTerm, SampleReward, Score, SoftOverlong,
};

/// Gives the same scores whatever it is asked.
struct Fixed(&'static str, Vec<Score>);

impl RewardFn for Fixed {
    fn name(&self) -> &str {
        self.0
    }
    fn score(&self, _: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(self.1[0].clone())
    }
    fn score_batch(&self, _: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        Ok(self.1.clone())
    }
}

/// Panics on completions of its choice.
struct Fragile;

impl RewardFn for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        assert!(input.completion != "break", "cannot stand {}", input.completion);
        Ok(Score::value(1.0))
    }
}

fn value(name: &'static str, value: f64) -> Fixed {
    Fixed(name, vec![Score::value(value)])
}

fn silent(name: &'static str) -> Fixed {
    Fixed(name, vec![Score::abstain()])
}

fn input(completion: &str) -> RewardInput<'_> {
    RewardInput::new("", completion, "2").with_num_tokens(150)
}

fn total(terms: Vec<RewardTerm>) -> Option<f64> {
    let sum = RewardSum::of(terms).expect("a valid sum");
    let reward = sum.score(&input("x")).expect("sound functions");
    assert_eq!(sum.score_batch(&[input("x")]).expect("sound functions"), std::slice::from_ref(&reward));
    reward.total
}

#[test]
fn overlong_punishments_are_two_components() {
    let (soft, proportional) =
        (SoftOverlong::new(200, 100).expect("valid"), ProportionalOverlong::new(100).expect("valid"));
    let sum = RewardSum::new(vec![(1.0, Box::new(soft)), (1.0, Box::new(proportional))]).expect("two names");
    assert_eq!(sum.names().collect::<Vec<_>>(), ["soft_overlong", "proportional_overlong"]);
    let reward = sum.score(&input("x")).expect("scored");
    assert_eq!(reward.components.iter().map(|part| part.value).collect::<Vec<_>>(), [Some(-0.5), Some(-0.25)]);
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let twice = RewardSum::of(vec![RewardTerm::new(1.0, value("mine", 1.0)), RewardTerm::new(2.0, silent("mine"))]);
    let error = twice.expect_err("one name");
    assert_eq!(error, RewardError::DuplicateName { component: "mine".to_owned() });
    assert_eq!(error.to_string(), "two rewards are named \"mine\", expected distinct names");
}

#[test]
fn a_sum_without_weight_is_refused() {
    let error =
        RewardSum::new(vec![(0.0, Box::new(Accuracy::default())), (-0.0, Box::new(Fragile))]).expect_err("all 0");
    let expected = "the weights of the rewards [\"accuracy\", \"fragile\"] are all 0, expected at least one other";
    assert_eq!(error.to_string(), expected);
    assert_eq!(RewardSum::new(Vec::new()).expect_err("none"), RewardError::NoWeight { components: Vec::new() });
    let error = RewardSum::new(vec![(f64::NAN, Box::new(Fragile))]).expect_err("NaN");
    assert_eq!(error.to_string(), "the weight of reward \"fragile\" is NaN, expected a finite number");
}

#[test]
fn an_abstention_drops_the_completion_or_is_passed_over() {
    let known = || RewardTerm::new(2.0, value("known", 1.5));
    assert_eq!(total(vec![known(), RewardTerm::new(1.0, silent("other"))]), None);
    let ignored = |name| RewardTerm::new(1.0, silent(name)).on_abstain(OnAbstain::Ignore);
    assert_eq!(total(vec![known(), ignored("other")]), Some(3.0));
    assert_eq!(total(vec![known().on_abstain(OnAbstain::Ignore), ignored("other")]), Some(3.0));
    assert_eq!(total(vec![ignored("one"), ignored("other")]), None, "nobody has judged it");
    assert_eq!(total(vec![known(), ignored("one"), RewardTerm::new(1.0, silent("other"))]), None);
    assert_eq!(serde_json::to_string(&OnAbstain::Ignore).expect("a name"), "\"ignore\"");
}

#[test]
fn a_weight_of_zero_neither_vetoes_nor_counts() {
    let known = || RewardTerm::new(2.0, value("known", 1.5));
    assert_eq!(total(vec![RewardTerm::new(0.0, silent("measured")), known()]), Some(3.0));
    assert_eq!(total(vec![known(), RewardTerm::new(0.0, value("measured", -7.0))]), Some(3.0));
    // A component that is measured alone does not stand for the total.
    let only = vec![RewardTerm::new(0.0, value("measured", 1.0)), RewardTerm::new(1.0, silent("weighted"))];
    assert_eq!(total(only), None);
    // The gold cannot be read, accuracy only measures: the format decides.
    let sum = RewardSum::of(vec![RewardTerm::new(0.0, Accuracy::default()), known()]).expect("valid");
    let reward = sum.score(&RewardInput::new("", "2", r"\frac{")).expect("scored");
    assert_eq!((reward.correct, reward.total), (None, Some(3.0)));
}

#[test]
fn a_function_that_panics_is_an_error_that_names_it() {
    let sum = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(Fragile))]).expect("valid");
    assert!(sum.score_batch(&[input("2"), input("3")]).is_ok());
    let expected = RewardError::Panicked { component: "fragile".to_owned(), message: "cannot stand break".to_owned() };
    assert_eq!(sum.score(&input("break")), Err(expected.clone()));
    assert_eq!(sum.score_batch(&[input("2"), input("break")]), Err(expected.clone()));
    assert_eq!(expected.to_string(), "reward \"fragile\" panicked: cannot stand break");
    assert!(sum.score_batch(&[input("2")]).is_ok(), "the sum can be used again");
}

#[test]
fn a_wrong_number_of_results_is_an_error_that_names_the_function() {
    for results in [0, 1, 3] {
        let scores = vec![Score::value(1.0); results];
        let terms = vec![RewardTerm::new(1.0, Accuracy::default()), RewardTerm::new(1.0, Fixed("mine", scores))];
        let error = RewardSum::of(terms).expect("valid").score_batch(&[input("2"), input("3")]).expect_err("not two");
        assert_eq!(error.to_string(), format!("reward \"mine\" gave {results} results, expected 2"));
    }
}

#[test]
fn a_value_that_is_not_finite_is_an_error_with_component_draw_and_sample() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let scores = vec![Score::value(1.0), Score::value(bad), Score::abstain()];
        for weight in [1.0, 0.0] {
            let mine = RewardTerm::new(weight, Fixed("mine", scores.clone()));
            let sum = RewardSum::of(vec![RewardTerm::new(1.0, Accuracy::default()), mine]).expect("valid");
            let inputs = [0, 1, 2].map(|sample| input("1").with_place(12, sample + 4, 1));
            let error = sum.score_batch(&inputs).expect_err("not finite").to_string();
            let expected =
                format!("reward \"mine\" of draw 12, sample 5 is {bad}, expected a finite number or an abstention");
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn a_function_that_fails_is_an_error_that_names_it() {
    let strict =
        SampleReward::new(
            "strict",
            |input: &RewardInput<'_>| {
                if input.completion == "break" { Err("cannot stand it") } else { Ok(Some(1.0)) }
            },
        );
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, strict)]).expect("valid");
    assert_eq!(sum.score(&input("x")).expect("scored").total, Some(1.0));
    let expected = RewardError::Failed { component: "strict".to_owned(), reason: "cannot stand it".to_owned() };
    assert_eq!(sum.score_batch(&[input("x"), input("break")]), Err(expected.clone()));
    assert_eq!(expected.to_string(), "reward \"strict\" failed: cannot stand it");
}

#[test]
fn a_function_of_groups_sees_one_draw_at_a_time() {
    let sizes = GroupReward::new("sizes", |group: &[RewardInput<'_>]| vec![group.len() as f64; group.len()]);
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, std::sync::Arc::new(sizes))]).expect("valid");
    let inputs = [3, 3, 4, 9, 9, 9].map(|draw| input("x").with_place(draw, 0, 1));
    let totals: Vec<_> = sum.score_batch(&inputs).expect("scored").iter().map(|reward| reward.total).collect();
    assert_eq!(totals, [2.0, 2.0, 1.0, 3.0, 3.0, 3.0].map(Some));
    assert_eq!(sum.score(&input("x")).expect("scored").total, Some(1.0));
    // Results that are missing in one group are not made up by another.
    let uneven = GroupReward::new("uneven", |group: &[RewardInput<'_>]| vec![1.0; 4 - group.len()]);
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, uneven)]).expect("valid");
    let inputs = [3, 4, 4, 4].map(|draw| input("x").with_place(draw, 0, 1));
    let error = sum.score_batch(&inputs).expect_err("3 and 1 results for 1 and 3 completions").to_string();
    assert_eq!(error, "reward \"uneven\" failed: 3 results for a group of 1 completions");
}

#[test]
fn numbers_to_log_stay_with_their_component() {
    let steps =
        |value: f64| SampleReward::new("steps", move |_: &RewardInput<'_>| Score::value(1.0).with_log("steps", value));
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, Accuracy::default()), RewardTerm::new(1.0, steps(3.0))]);
    let reward = sum.expect("valid").score(&input("2")).expect("scored");
    assert_eq!(reward.components[1].log["steps"], 3.0);
    let json = serde_json::to_string(&reward).expect("serialises");
    assert_eq!(json.matches("log").count(), 1, "{json}");
    assert_eq!(serde_json::from_str::<dapo_reward::Reward>(&json).expect("the same"), reward);
    let earlier =
        r#"{"correct": true, "components": [{"name": "accuracy", "weight": 1.0, "value": 1.0}], "total": 1.0}"#;
    assert!(serde_json::from_str::<dapo_reward::Reward>(earlier).is_ok());
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, steps(f64::NAN))]).expect("valid");
    assert!(matches!(sum.score(&input("2")), Err(RewardError::NotFinite { .. })));
}

#[test]
fn one_component_judges_what_is_correct() {
    let says = |name: &'static str, correct| SampleReward::new(name, move |_| Score::value(1.0).with_correct(correct));
    let correct = |sum: RewardSum| sum.score(&input("\\boxed{2}")).expect("scored").correct;
    let sum = |terms| RewardSum::of(terms).expect("a valid sum");
    let term = |reward| RewardTerm::new(1.0, reward);
    // The only one that says it judges, wherever it stands.
    assert_eq!(correct(sum(vec![term(says("a", true)), term(says("b", false).judging())])), Some(false));
    // Of several, `accuracy`.
    let several = || sum(vec![term(says("a", false).judging()), RewardTerm::new(0.0, Accuracy::default())]);
    assert_eq!(correct(several()), Some(true));
    // Or the one that is named.
    assert_eq!(correct(several().judged_by("a").expect("judges")), Some(false));
    let error = several().judged_by("b").expect_err("no such judge").to_string();
    assert_eq!(error, "the judge of what is correct is \"b\", expected a reward that judges: a, accuracy");
    // Nobody says so: the first with something to say.
    let undeclared = sum(vec![term(says("a", true)), term(says("b", false))]);
    assert!(!undeclared.judges() && several().judges());
    assert_eq!(correct(undeclared), Some(true));
}

#[test]
fn an_answer_is_needed_by_components_that_count() {
    let sum = |weight| {
        let plain = SampleReward::new("plain", |_| 1.0);
        RewardSum::of(vec![RewardTerm::new(weight, Accuracy::default()), RewardTerm::new(1.0, plain)]).expect("valid")
    };
    assert!(sum(1.0).needs_answer() && !sum(0.0).needs_answer());
    let own = RewardSum::of(vec![RewardTerm::new(1.0, SampleReward::new("own", |_| 1.0).needing_answer())]);
    assert!(own.expect("valid").needs_answer());
    // Where there is no answer, what is measured alone is left out; what counts abstains.
    let bare = RewardInput::new("", "\\boxed{2}", "");
    assert_eq!(sum(1.0).without_answers().score(&bare).expect("scored").total, None);
    let reduced = sum(0.0).without_answers();
    assert_eq!(reduced.names().collect::<Vec<_>>(), ["plain"]);
    assert!(!reduced.judges());
    assert_eq!(reduced.score(&bare).expect("scored").total, Some(1.0));
    for grader in [dapo_reward::Grader::Dapo, dapo_reward::Grader::StrictBox] {
        let sum = RewardSum::new(vec![(1.0, Box::new(Accuracy { grader, ..Accuracy::default() }))]).expect("valid");
        assert_eq!(sum.score(&RewardInput::new("", "Answer: 2", " ")).expect("scored").correct, None);
    }
}

#[test]
fn any_of_the_gold_answers_is_enough() {
    use dapo_reward::{Grader, TextOptions};
    let judge = |grader: Grader, golds: &[&str], completion: &str| {
        let rest: Vec<String> = golds[1..].iter().map(|gold| (*gold).to_owned()).collect();
        let input = RewardInput::new("", completion, golds[0]).with_alternatives(&rest);
        let sum = RewardSum::new(vec![(1.0, Box::new(Accuracy { grader, ..Accuracy::default() }))]).expect("valid");
        let reward = sum.score(&input).expect("scored");
        assert_eq!(sum.score_batch(&[input]).expect("scored"), std::slice::from_ref(&reward));
        (reward.correct, sum.can_read(&input.answers().collect::<Vec<_>>()))
    };
    let math = || Grader::default();
    assert_eq!(judge(math(), &["1/2", "7"], "\\boxed{0.5}"), (Some(true), true));
    assert_eq!(judge(math(), &["1/2", "7"], "\\boxed{7}"), (Some(true), true));
    assert_eq!(judge(math(), &["1/2", "7"], "\\boxed{8}"), (Some(false), true));
    assert_eq!(judge(math(), &["\\frac{1}{", "7"], "\\boxed{7}"), (Some(true), true));
    assert_eq!(judge(math(), &["\\frac{1}{", "7"], "\\boxed{8}"), (Some(false), true), "one of them can be read");
    assert_eq!(judge(math(), &["\\frac{1}{", "\\sqrt{"], "\\boxed{8}"), (None, false));
    let text = Grader::Text(TextOptions::default());
    assert_eq!(judge(text, &["North Pole", "South Pole"], "south pole"), (Some(true), true));
    assert_eq!(judge(Grader::Choice, &["A", "C"], "The answer is (C)."), (Some(true), true));
    assert_eq!(judge(Grader::Dapo, &["34", "35"], "Answer: 35"), (Some(true), true));
}

#[test]
fn a_number_to_log_cannot_take_the_name_of_the_mean() {
    let reward = SampleReward::new("own", |_| Score::value(1.0).with_log("mean", 1.0));
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, reward)]).expect("a valid sum");
    let error = sum.score(&input("x")).expect_err("taken").to_string();
    assert_eq!(
        error,
        "reward \"own\" logs a number as \"mean\", expected another name: metrics have its own mean there"
    );
}
