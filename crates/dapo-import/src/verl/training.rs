//! Steps, mini-batches, the optimizer, evaluation and what is kept.

use crate::draft::{Draft, Got, places};

/// How long and in which portions to train; returns the number of steps, unless passes over the data are counted.
pub(super) fn steps(d: &mut Draft<'_>, prompts: &Got<i64>, is_dynamic: bool) -> Option<i64> {
    mini_batches(d, prompts);
    let epochs = d.count(&["trainer.total_epochs"], 1);
    let (total, why) = match d.count(&["trainer.total_training_steps"], 1) {
        Some(total) => (Some(total), "trainer.total_training_steps counts"),
        None => (streamed_steps(d, prompts), "rollout.total_rollout_steps counts"),
    };
    let Some(total) = total else {
        if is_dynamic {
            d.note(
                &places(epochs.as_ref()),
                "verl counts the problems it draws, also those whose groups are filtered; here a pass has as many steps as \
                 the data have batches of train_batch problems",
            );
        }
        d.put_or("train.passes", epochs.map(|epochs| epochs.map(|epochs| epochs as f64)), 30.0);
        return None;
    };
    let count = d.knows(&total.from).then_some(total.value);
    d.put("train.steps", total);
    d.leave(&places(epochs.as_ref()), why);
    count
}

/// The fully asynchronous trainer counts the prompts of the run.
fn streamed_steps(d: &mut Draft<'_>, prompts: &Got<i64>) -> Option<Got<i64>> {
    let total = d.count(&["rollout.total_rollout_steps"], 1)?;
    let unknown: &[usize] = if d.knows(&prompts.from) { &[] } else { &prompts.from };
    let steps = total.value.div_euclid(prompts.value) + i64::from(total.value % prompts.value != 0);
    if unknown.is_empty() {
        d.note(
            &total.from,
            format!("{} prompts in steps of {}, unless the data end before", total.value, prompts.value),
        );
    }
    Some(Got::of(steps, &[&total.from, unknown]))
}

fn mini_batches(d: &mut Draft<'_>, prompts: &Got<i64>) {
    let mini = d.count(&["actor_rollout_ref.actor.ppo_mini_batch_size"], 1);
    let size = mini.as_ref().map_or(256, |mini| mini.value);
    let from = places(mini.as_ref());
    if prompts.value % size != 0 && d.knows(&[&from[..], &prompts.from].concat()) {
        d.note(
            &from,
            format!(
                "{} prompts are no multiple of {size}: verl's last mini-batch is smaller, ours are even",
                prompts.value
            ),
        );
    }
    let portions =
        Got::of(prompts.value.div_euclid(size) + i64::from(prompts.value % size != 0), &[&prompts.from, &from]);
    d.put_or("train.mini_batches", Some(portions), 1);
    let epochs = d.count(&["actor_rollout_ref.actor.ppo_epochs"], 1);
    d.put_or("train.updates_per_batch", epochs, 1);
    let by_tokens = d.switch(&["actor_rollout_ref.actor.use_dynamic_bsz"]);
    let tokens = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu";
    if !d.is_told(&[tokens]) {
        d.skip(&[tokens], "the file does not tell its value, which only bounds memory");
    }
    if let Some(by_tokens) = by_tokens {
        if by_tokens.value
            && let Some(tokens) = d.count(&[tokens], 1)
        {
            d.put("train.micro_batch_tokens", tokens);
        }
        d.leave(&by_tokens.from, "micro-batches are always filled by tokens");
    }
    d.skip(&[tokens], "without use_dynamic_bsz verl counts sequences");
}

/// AdamW and the learning rate of the policy.
pub(super) fn optimizer(d: &mut Draft<'_>, steps: Option<i64>) {
    adamw(d, "actor_rollout_ref.actor", "optimizer", 1e-6, steps);
}

/// AdamW and the learning rate below a key of verl's, as a table of ours.
pub(super) fn adamw(d: &mut Draft<'_>, source: &str, table: &str, rate: f64, steps: Option<i64>) {
    let key = |name: &str| format!("{source}.{name}");
    let ours = |name: &str| format!("{table}.{name}");
    if let Some(kind) = d.text(&[&key("optim.optimizer")]) {
        let reason = "the optimizer is AdamW with moments in f32";
        if matches!(kind.value.to_ascii_lowercase().as_str(), "adam" | "adamw") {
            d.leave(&kind.from, reason);
        } else {
            d.give_up(&kind.from, reason);
        }
    }
    let lr = d.number(&[&key("optim.lr")]);
    d.put_or(ours("lr"), lr, rate);
    let warmup = d.integer(&[&key("optim.lr_warmup_steps")]);
    let ratio = d.amount(&[&key("optim.lr_warmup_steps_ratio")]);
    match (warmup, ratio) {
        (Some(warmup), ratio) if warmup.value >= 0 => {
            d.put(ours("warmup_steps"), warmup);
            d.leave(&places(ratio.as_ref()), "lr_warmup_steps counts");
        }
        (warmup, Some(ratio)) => {
            let off = places(warmup.as_ref());
            match steps {
                Some(steps) => {
                    let count = (ratio.value * steps as f64) as i64;
                    d.put(ours("warmup_steps"), Got::of(count, &[&ratio.from, &off]));
                }
                None => d.put(ours("warmup_ratio"), Got::of(ratio.value, &[&ratio.from, &off])),
            }
        }
        (Some(off), None) => d.put(ours("warmup_steps"), off.map(|_| 0)),
        (None, None) => d.assume(ours("warmup_steps"), 0, ""),
    }
    let kinds = [("constant", "constant"), ("cosine", "cosine"), ("linear", "linear")];
    let names = ["lr_scheduler_type", "warmup_style", "lr_decay_style"];
    let names = names.map(|name| key(&format!("optim.{name}")));
    let schedule = d.word(&names.each_ref().map(String::as_str), &kinds);
    let is_constant = schedule.as_ref().is_none_or(|schedule| schedule.value == "constant");
    d.put_or(ours("schedule"), schedule, "constant");
    if !is_constant && let Some(least) = d.number(&[&key("optim.min_lr_ratio")]) {
        d.put(ours("min_lr_ratio"), least);
    }
    d.skip(&[&key("optim.min_lr_ratio")], "the learning rate does not fall");
    if let Some(betas) = d.numbers(&[&key("optim.betas")]) {
        let (beta1, beta2) = if let [beta1, beta2] = betas.value[..] {
            (beta1, beta2)
        } else {
            if d.knows(&betas.from) {
                d.refuse(&betas.from, "two numbers");
            }
            (f64::NAN, f64::NAN)
        };
        d.put(ours("beta1"), betas.clone().map(|_| beta1));
        d.put(ours("beta2"), betas.map(|_| beta2));
    } else {
        d.assume(ours("beta1"), 0.9, "");
        d.assume(ours("beta2"), 0.999, "");
    }
    let decay = d.number(&[&key("optim.weight_decay")]);
    d.put_or(ours("weight_decay"), decay, 0.01);
    let clip = match d.number(&[&key("grad_clip")]) {
        Some(clip) => Some(clip),
        None => d.number(&[&key("optim.clip_grad")]),
    };
    d.put_or(ours("max_grad_norm"), clip, 1.0);
    d.skip(&[&key("optim.clip_grad")], &format!("{} counts", key("grad_clip")));
}

/// Evaluation during training.
pub(super) fn evaluation(d: &mut Draft<'_>) {
    let every = d.integer(&["trainer.test_freq"]);
    let may_be_on = every.as_ref().is_some_and(|every| every.value > 0 || !d.knows(&every.from));
    d.put_or("eval.every", every.map(|every| every.map(|n| n.max(0))), 0);
    let before = d.switch(&["trainer.val_before_train"]);
    if may_be_on {
        d.put_or("eval.at_start", before, true);
    } else {
        d.leave(&places(before.as_ref()), "eval.at_start goes with eval.every");
    }
    let samples = d.count(&["actor_rollout_ref.rollout.val_kwargs.n"], 1);
    d.put_or("eval.samples", samples, 1);
    let draws = d.switch(&["actor_rollout_ref.rollout.val_kwargs.do_sample"]);
    let temperature = d.number(&["actor_rollout_ref.rollout.val_kwargs.temperature"]);
    match (draws, temperature) {
        (Some(draws), Some(temperature)) => {
            let value = if draws.value { temperature.value } else { 0.0 };
            d.put("eval.temperature", Got::of(value, &[&temperature.from, &draws.from]));
        }
        (None, Some(temperature)) => d.put("eval.temperature", temperature),
        (Some(draws), None) => d.put("eval.temperature", draws.map(|_| 0.0)),
        (None, None) => d.assume("eval.temperature", 0.0, ""),
    }
    let top_p = d.number(&["actor_rollout_ref.rollout.val_kwargs.top_p"]);
    d.put_or("eval.top_p", top_p, 1.0);
    if let Some(top_k) = d.integer(&["actor_rollout_ref.rollout.val_kwargs.top_k"]) {
        if top_k.value > 0 || !d.knows(&top_k.from) {
            d.put("eval.top_k", top_k);
        } else {
            d.leave(&top_k.from, "every token may be drawn, as by default");
        }
    }
}

/// What the run folder keeps.
pub(super) fn output(d: &mut Draft<'_>) {
    let every = d.integer(&["trainer.save_freq"]);
    d.put_or("output.checkpoint_every", every.map(|every| every.map(|n| n.max(0))), 0);
    let keep = d.count(&["trainer.max_actor_ckpt_to_keep"], 0);
    d.put_or("output.keep_checkpoints", keep, 0);
}
