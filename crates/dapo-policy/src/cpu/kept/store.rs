//! Kept rows of sequences that have ended, found by their tokens.

use super::assembly::Assembly;
use super::budget::Budget;
use super::layout::Layout;
use super::rows::KeptRows;
use crate::batch::Inputs;
use crate::config::ModelConfig;
use crate::error::PolicyError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the weights as they are have computed of prompts and completions.
#[derive(Debug)]
pub(in crate::cpu) struct KeptStore {
    pub(super) layout: Layout,
    pub(super) budget: Arc<Budget>,
    prompts: Mutex<BTreeMap<Arc<[u32]>, Prompt>>,
}

#[derive(Debug, Default)]
struct Prompt {
    rows: Option<Arc<KeptRows>>,
    completions: Vec<Arc<KeptRows>>,
}

/// What becomes of kept rows that a batch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu) enum Use {
    /// They stay.
    Look,
    /// Those of completions are given up with the batch; a prompt's stay for its other completions.
    Up,
}

impl KeptStore {
    pub(in crate::cpu) fn new(config: &ModelConfig) -> Self {
        Self { layout: Layout::of(config), budget: Arc::default(), prompts: Mutex::default() }
    }

    /// Gives up everything: the weights change.
    pub(in crate::cpu) fn clear(&self) {
        self.prompts().clear();
    }

    /// Gives up completions that are not wanted, by draw and sample, and prompts without a completion.
    pub(in crate::cpu) fn retain(&self, is_wanted: &dyn Fn(u64, usize) -> bool) {
        self.prompts().retain(|_, prompt| {
            prompt.completions.retain(|rows| is_wanted(rows.id.0, rows.id.1));
            !prompt.completions.is_empty()
        });
    }

    /// Tokens of what is kept.
    pub(in crate::cpu) fn tokens(&self) -> usize {
        let prompts = self.prompts();
        let rows = prompts.values().flat_map(|prompt| prompt.rows.iter().chain(&prompt.completions));
        rows.map(|rows| rows.token_ids.len()).sum()
    }

    pub(super) fn has_prompt(&self, token_ids: &[u32]) -> bool {
        self.prompts().get(token_ids).is_some_and(|prompt| prompt.rows.is_some())
    }

    pub(super) fn put_prompt(&self, rows: KeptRows) {
        let mut prompts = self.prompts();
        let prompt = prompts.entry(Arc::clone(&rows.prompt)).or_default();
        prompt.rows = Some(Arc::new(rows));
    }

    pub(super) fn put_completion(&self, rows: KeptRows) {
        if !rows.token_ids.is_empty() {
            let mut prompts = self.prompts();
            prompts.entry(Arc::clone(&rows.prompt)).or_default().completions.push(Arc::new(rows));
        }
    }

    /// Which rows of a batch are kept; `None` where none is.
    pub(in crate::cpu) fn assembly(&self, inputs: &Inputs, usage: Use) -> Result<Option<Assembly<'_>>, PolicyError> {
        let mut prompts = self.prompts();
        if prompts.is_empty() {
            return Ok(None);
        }
        let segments = inputs.segments.list();
        let tokens = |number: usize| &inputs.token_ids[segments[number].start..][..segments[number].len];
        let found = (0..segments.len()).map(|number| {
            let Some(parent) = segments[number].parent else {
                return prompts.get(tokens(number))?.rows.clone();
            };
            let completions = &mut prompts.get_mut(tokens(parent))?.completions;
            let place = completions.iter().position(|rows| rows.token_ids.starts_with(tokens(number)))?;
            if usage == Use::Look {
                return Some(Arc::clone(&completions[place]));
            }
            let rows = completions.remove(place);
            if completions.is_empty() {
                prompts.remove(tokens(parent));
            }
            Some(rows)
        });
        Assembly::new(&self.layout, inputs, found.collect())
    }

    fn prompts(&self) -> MutexGuard<'_, BTreeMap<Arc<[u32]>, Prompt>> {
        self.prompts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{layout, memory, put};
    use super::*;
    use crate::cpu::workspace::Saved;
    use dapo_kernels::attention::Segments;

    /// A prompt of three tokens, with two completions of two.
    fn store() -> KeptStore {
        let store = KeptStore { layout: layout(), budget: Arc::default(), prompts: Mutex::default() };
        let prompt: Arc<[u32]> = [1, 2, 3].into();
        let kept = |tokens: &[u32], sample| {
            let mut rows = KeptRows::new(Arc::clone(&prompt), (0, sample), &store.layout);
            assert!(rows.reserve(tokens.len(), &store.budget, 3));
            put(&mut rows, &store.layout, tokens);
            rows
        };
        store.put_prompt(kept(&prompt, 0));
        store.put_completion(kept(&[4, 5], 0));
        store.put_completion(kept(&[6, 7], 1));
        store
    }

    fn batch(completion: &[u32]) -> Inputs {
        let segments = Segments::new([(3, None), (2, Some(0))]).unwrap();
        let token_ids = [&[1, 2, 3], completion].concat();
        Inputs { token_ids, segments, predictors: vec![3], targets: vec![completion[1]] }
    }

    #[test]
    fn a_batch_gives_up_the_layers_that_it_has_for_itself() {
        let store = store();
        let prompt = || store.prompts().values().next().and_then(|prompt| prompt.rows.clone());
        for (completion, usage, last) in
            [(&[4, 5], Use::Look, false), (&[4, 5], Use::Up, false), (&[6, 7], Use::Up, true)]
        {
            let mut assembly = store.assembly(&batch(completion), usage).unwrap().unwrap();
            assembly.layer(1, None, &mut Saved::default());
            // The prompt stays for the other completion; after the last one nobody else has it.
            assert_eq!(prompt().is_none(), last);
            if let Some(prompt) = prompt() {
                assert!(memory(&prompt, 1) > 0 && memory(&prompt, 0) > 0);
            }
            let given_up = if usage == Use::Look { 0 } else { 1 + usize::from(last) };
            assert_eq!(assembly.without_memory(1), given_up);
            assert_eq!(assembly.without_memory(0), 0);
        }
    }
}
