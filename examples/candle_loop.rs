//! A training loop of one's own: the tiny Qwen3 of `dapo_qwen3`, with Candle's `backward` and AdamW of candle-nn.
//!
//! `cargo run --release --example candle_loop`

use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use dapo::data::tasks::{Split, addition_problems};
use dapo::data::{PromptStyle, encode_prompts};
use dapo::loss::tensor::{TensorBatch, policy_loss_single};
use dapo::loss::{AdvantageNorm, LossConfig, group_advantages};
use dapo::policy::candle::PolicyVars;
use dapo::policy::{GenerationConfig, Policy, Request, Segments, StopTokens, TokenBatch};
use dapo::reward::{Accuracy, RewardFn, RewardInput};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tiny-qwen3");
const STEPS: usize = 40;
const PROMPTS: usize = 16;
const GROUP: usize = 8;

fn main() -> Result<()> {
    let (decoder, tokenizer) = dapo::policy::load(MODEL.as_ref())?;
    let problems = addition_problems(Split::Train, STEPS * PROMPTS, 0);
    let (prompts, _) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 64)?;
    let stop = StopTokens::of(decoder.config(), &tokenizer);
    let generation = GenerationConfig { max_new_tokens: 72, ..GenerationConfig::new(stop) };
    let (accuracy, loss_config) = (Accuracy::default(), LossConfig::default());
    let mut policy = PolicyVars::new(decoder)?;
    let mut optimizer = AdamW::new(policy.vars(), ParamsAdamW { lr: 2e-4, ..ParamsAdamW::default() })?;

    let mut sum = 0.0;
    for (step, prompts) in prompts.chunks_exact(PROMPTS).enumerate() {
        let request = |(i, prompt): (usize, &dapo::data::Prompt)| {
            let draw = (step * PROMPTS + i) as u64;
            Request { prompt_ids: prompt.token_ids.clone(), samples: GROUP, first_sample: 0, draw }
        };
        let requests: Vec<Request> = prompts.iter().enumerate().map(request).collect();
        let groups = policy.decoder()?.generate(&requests, &generation)?;

        // Each prompt is followed by its completions, whose tokens are the targets.
        let (mut token_ids, mut segments, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut advantages, mut old_logprobs, mut cu_seqlens) = (Vec::new(), Vec::new(), vec![0]);
        for (prompt, group) in prompts.iter().zip(&groups) {
            let mut rewards = Vec::new();
            let parent = segments.len();
            segments.push((prompt.token_ids.len(), None));
            token_ids.extend_from_slice(&prompt.token_ids);
            for completion in group {
                let text = tokenizer.decode(&completion.token_ids, true)?;
                let num_tokens = completion.token_ids.len();
                let input = RewardInput::new(&prompt.text, &text, &prompt.answer).with_num_tokens(num_tokens);
                let score = accuracy.score(&input).map_err(anyhow::Error::from_boxed)?;
                rewards.push(score.value.unwrap_or(0.0));
                segments.push((num_tokens, Some(parent)));
                targets.extend(token_ids.len()..token_ids.len() + num_tokens);
                token_ids.extend_from_slice(&completion.token_ids);
                old_logprobs.extend_from_slice(&completion.logprobs);
                cu_seqlens.push(targets.len());
            }
            sum += rewards.iter().sum::<f64>();
            advantages.extend_from_slice(group_advantages(&rewards, &AdvantageNorm::default())?.values());
        }
        let batch = TokenBatch { token_ids, segments: Segments::new(segments)?.into(), targets };

        let scores = policy.token_logprobs(&batch, 1.0)?;
        let (advantages, old) = (Tensor::new(advantages, &Device::Cpu)?, Tensor::new(old_logprobs, &Device::Cpu)?);
        let tensors = TensorBatch::new(&advantages, &old).with_cu_seqlens(&cu_seqlens);
        let output = policy_loss_single(&loss_config, &scores.logprobs, None, &tensors)?;
        optimizer.step(&output.loss.backward()?)?;
        if (step + 1) % 5 == 0 {
            println!("steps {:2} to {:2}   mean reward {:6.3}", step - 3, step + 1, sum / (5 * PROMPTS * GROUP) as f64);
            sum = 0.0;
        }
    }
    Ok(())
}
