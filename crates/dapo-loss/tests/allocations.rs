//! Evaluating a plan allocates nothing.
#![allow(missing_docs, clippy::unwrap_used)]
#![expect(unsafe_code, reason = "a counting allocator is an unsafe trait")]

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use common::{large_case, losses_and_aggregations};
use dapo_loss::{LossPlan, TokenChunk};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn evaluating_a_plan_allocates_nothing() {
    let case = large_case(40, 500);
    let mut gradient = vec![0.0; case.tokens()];
    for config in losses_and_aggregations() {
        let mut plan = LossPlan::new(&config, case.denominator(&config).unwrap(), case.batch()).unwrap();
        plan.set_sequence_ratios(&case.logprobs).unwrap();
        let before = ALLOCATIONS.with(Cell::get);
        plan.evaluate(TokenChunk::whole(&case.logprobs), gradient.as_mut_slice().into()).unwrap();
        assert_eq!(ALLOCATIONS.with(Cell::get), before, "{config:?}");
    }
}
