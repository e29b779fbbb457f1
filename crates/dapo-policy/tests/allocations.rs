//! The decoding loop asks for memory for keys and values alone, a block of positions at a time.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "a global allocator that counts")]

mod common;

use common::{decoder, plain};
use dapo_policy::{GenerationConfig, Policy, Request, StopTokens};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_token_costs_no_allocation_unless_it_begins_a_block() {
    let decoder = decoder(plain());
    let requests = [Request { prompt_ids: (3..20).collect(), samples: 12, first_sample: 0, draw: 0 }];
    let allocations = |max_new_tokens| {
        let config = GenerationConfig { max_new_tokens, ..GenerationConfig::new(StopTokens::none()) };
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        decoder.generate(&requests, &config).unwrap();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    // One thread: the queues of a larger pool ask for memory when they like. What the thread keeps is there after the
    // longest run.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (short, long) = pool.install(|| {
        allocations(400);
        (allocations(100), allocations(400))
    });
    // With the prompt, 116 positions lie in one block of 128 and 416 in four. A block is keys, values and a count.
    assert_eq!(long - short, 12 * 2 * 3 * 3, "300 more tokens of 12 completions in 2 layers");
}
