//! Evaluations of the tiny model of the test data.
#![allow(clippy::unwrap_used)]

use dapo_data::tasks::{Split, addition_problems};
use dapo_data::{Prompt, PromptStyle, encode_prompts};
use dapo_eval::{EvalReport, Evaluation, evaluate, evaluate_in_blocks};
use dapo_policy::{Decoder, GenerationConfig, Purpose, SamplingConfig, StopTokens, Tokenizer, load};
use dapo_reward::{Accuracy, Grader, RewardSum};
use dapo_trainer::TrainerError;

const TINY_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tiny-qwen3");

struct Setup {
    policy: Decoder,
    tokenizer: Tokenizer,
    prompts: Vec<Prompt>,
    generation: GenerationConfig,
    rewards: RewardSum,
}

impl Setup {
    fn new() -> Self {
        let (policy, tokenizer) = load(TINY_MODEL.as_ref()).unwrap();
        let problems = addition_problems(Split::HeldOut, 7, 5);
        let (prompts, _) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 64).unwrap();
        let generation = GenerationConfig {
            max_new_tokens: 72,
            sampling: SamplingConfig { top_p: 0.7, ..SamplingConfig::default() },
            purpose: Purpose::Evaluation,
            ..GenerationConfig::new(StopTokens::of(policy.config(), &tokenizer))
        };
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default()))]).unwrap();
        Self { policy, tokenizer, prompts, generation, rewards }
    }

    fn evaluate(&self) -> Evaluation {
        evaluate(&self.policy, &self.tokenizer, &self.prompts, 4, &self.generation, &self.rewards).unwrap()
    }

    fn in_blocks(&self, block: usize) -> Vec<Evaluation> {
        let (policy, tokenizer, prompts) = (&self.policy, &self.tokenizer, &self.prompts);
        let blocks = evaluate_in_blocks(policy, tokenizer, prompts, 4, &self.generation, &self.rewards, block);
        blocks.map(|groups| Evaluation { groups: groups.unwrap() }).collect()
    }
}

#[test]
fn blocks_together_are_the_whole_evaluation() {
    let setup = Setup::new();
    let whole = setup.evaluate();
    assert!(0.0 < whole.accuracy() && whole.accuracy() < 1.0, "a model that is sometimes right");
    for (block, sizes) in [(1, &[1; 7][..]), (3, &[3, 3, 1]), (7, &[7]), (100, &[7]), (0, &[1; 7])] {
        let blocks = setup.in_blocks(block);
        assert_eq!(blocks.iter().map(|b| b.groups.len()).collect::<Vec<_>>(), sizes);
        assert_eq!(blocks.into_iter().flat_map(|b| b.groups).collect::<Vec<_>>(), whole.groups, "blocks of {block}");
    }
}

#[test]
fn the_report_does_not_depend_on_the_number_of_threads() {
    let setup = Setup::new();
    let report = |threads| -> EvalReport {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| setup.evaluate().report(&Grader::default()))
    };
    let one = report(1);
    assert_eq!(one, report(3));
    assert_eq!((one.problems, one.samples, one.per_problem.len()), (7, 4, 7));
}

#[test]
fn an_impossible_setting_is_an_error_of_the_first_block() {
    let mut setup = Setup::new();
    setup.generation.max_new_tokens = 0;
    let (policy, tokenizer, prompts) = (&setup.policy, &setup.tokenizer, &setup.prompts);
    let mut blocks = evaluate_in_blocks(policy, tokenizer, prompts, 4, &setup.generation, &setup.rewards, 2);
    let error: TrainerError = blocks.next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "max_new_tokens is 0, expected at least 1");
}
