//! Generation on any device: a scheduler over a backend's generator.

use crate::backend::Backend;
use crate::error::PolicyError;
use crate::policy::{Each, More, Watch, WatchTokens};
use crate::request::{Completion, GenerationConfig, Request};
use crate::scheduler::{Between, Scheduler};
use crate::turns::Turns;

/// Completions of each request, in order.
pub(crate) fn generate(
    backend: &dyn Backend,
    requests: &[Request],
    config: &GenerationConfig,
    watch: &mut Watch<'_>,
) -> Result<Vec<Vec<Completion>>, PolicyError> {
    let mut groups = vec![Vec::new(); requests.len()];
    let mut collect = |number: usize, group| {
        groups[number] = group;
        0
    };
    run(backend, requests, config, false, None, &mut collect, watch)?;
    Ok(groups)
}

/// Completions of each request, shown to `each` as soon as all of them are there.
pub(crate) fn generate_each(
    backend: &dyn Backend,
    requests: &[Request],
    config: &GenerationConfig,
    each: &mut Each<'_>,
) -> Result<(), PolicyError> {
    let mut show = |number: usize, group| {
        each(number, group);
        0
    };
    run(backend, requests, config, false, None, &mut show, &mut |_| ())
}

/// Completions of each request, shown to `more` as soon as all of them are there, and as many more as it then asks for.
pub(crate) fn generate_more(
    backend: &dyn Backend,
    requests: &[Request],
    config: &GenerationConfig,
    more: &mut More<'_>,
) -> Result<(), PolicyError> {
    run(backend, requests, config, true, None, more, &mut |_| ())
}

/// The same of completions of several turns.
pub(crate) fn generate_turns(
    backend: &dyn Backend,
    requests: &[Request],
    config: &GenerationConfig,
    turns: &mut dyn Turns,
    more: &mut More<'_>,
) -> Result<(), PolicyError> {
    run(backend, requests, config, true, Some(turns), more, &mut |_| ())
}

/// The first completion of a request, shown to `watch` as it grows; `None` where that ends it.
pub(crate) fn generate_streamed(
    backend: &dyn Backend,
    request: &Request,
    config: &GenerationConfig,
    watch: &mut WatchTokens<'_>,
) -> Result<Option<Completion>, PolicyError> {
    let mut whole = None;
    backend.generate(std::slice::from_ref(request), config, &mut |generator| {
        let mut scheduler = Scheduler::new(generator);
        scheduler.submit(request);
        while !scheduler.is_done() {
            let mut ended = None;
            scheduler.step(&mut |_, group| {
                ended = group.into_iter().next();
                0
            })?;
            let shown = match &ended {
                Some(completion) => watch(&completion.token_ids),
                None => watch(&scheduler.tokens_of_first()?),
            };
            if shown.is_break() {
                return Ok(());
            }
            whole = ended;
        }
        Ok(())
    })?;
    Ok(whole)
}

fn run(
    backend: &dyn Backend,
    requests: &[Request],
    config: &GenerationConfig,
    keeps_prompts: bool,
    mut turns: Option<&mut dyn Turns>,
    more: &mut More<'_>,
    watch: &mut Watch<'_>,
) -> Result<(), PolicyError> {
    let (found, expected) = match (&turns, config.turns) {
        (Some(_), None) => ("unset", "the limits of completions of several turns"),
        (None, Some(_)) => ("set", "unset where nobody speaks between turns"),
        _ => ("", ""),
    };
    if !found.is_empty() {
        return Err(PolicyError::Setting { field: "turns".into(), found: found.into(), expected: expected.into() });
    }
    if requests.iter().all(|request| request.samples == 0) {
        return Ok(());
    }
    backend.generate(requests, config, &mut |generator| {
        if keeps_prompts {
            generator.keep_prompts();
        }
        let mut scheduler = Scheduler::new(generator);
        if let Some(turns) = turns.as_deref_mut() {
            scheduler.turns = Some(Between { turns, config, parked: 0 });
        }
        for request in requests {
            scheduler.submit(request);
        }
        while !scheduler.is_done() {
            scheduler.step(more)?;
            watch(scheduler.progress());
        }
        Ok(())
    })
}
