//! The emulation itself: what it computes, and what it notices.

#![expect(unsafe_code, reason = "calling the emulation's C interface")]

use candle_core::Result;
use std::ffi::{CStr, CString, c_char, c_void};

unsafe extern "C" {
    fn dapo_emulation_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: usize,
        arguments: *const *mut c_void,
        sizes: *const usize,
        count: usize,
        order: u64,
    ) -> *const c_char;
}

/// Launches one block of a kernel that takes pointers and ints.
fn launch(
    name: &str,
    threads: u32,
    shared_bytes: usize,
    pointers: &[*mut i32],
    ints: &[i32],
    order: u64,
) -> Result<()> {
    // Only a library that is used is linked.
    let _ = dapo_kernels::cuda::Gpu::emulated();
    let name = CString::new(name).unwrap();
    let mut values: Vec<u64> = pointers.iter().map(|p| *p as u64).chain(ints.iter().map(|i| *i as u64)).collect();
    let sizes: Vec<usize> = pointers.iter().map(|_| 8).chain(ints.iter().map(|_| 4)).collect();
    let arguments: Vec<*mut c_void> = values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
    // SAFETY: the kernels of the self-test, with arguments as they take them.
    let message = unsafe {
        dapo_emulation_launch(
            name.as_ptr(),
            [1, 1, 1].as_ptr(),
            [threads, 1, 1].as_ptr(),
            shared_bytes,
            arguments.as_ptr(),
            sizes.as_ptr(),
            sizes.len(),
            order,
        )
    };
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message is a string that stays until this thread's next launch.
    Err(candle_core::Error::Msg(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()))
}

#[test]
fn warps_and_blocks_exchange_values() {
    let mut input: Vec<i32> = (0..96).map(|i| i * i).collect();
    for order in [0, 1, 5] {
        let mut out = vec![0; 97];
        launch("self_test_collectives", 96, 0, &[input.as_mut_ptr(), out.as_mut_ptr()], &[], order).unwrap();
        assert_eq!(out[0], input.iter().sum::<i32>());
        // The first lane of a warp has nobody below.
        let below: Vec<i32> = (0..96).map(|i| if i % 32 == 0 { i * i } else { (i - 1) * (i - 1) }).collect();
        assert_eq!(out[1..], below);
    }
}

#[test]
fn threads_at_different_barriers_are_noticed() {
    let mut out = vec![0];
    let error = launch("self_test_divergent", 64, 0, &[out.as_mut_ptr()], &[], 0).unwrap_err().to_string();
    assert!(error.contains("divergent barrier") && error.contains("self_test.cu"), "{error}");
    // And the next launch is none the worse for it.
    warps_and_blocks_exchange_values();
}

#[test]
fn a_race_gives_different_bits_in_another_order() {
    let results = [0, 1].map(|order| {
        let mut out = vec![0; 64];
        launch("self_test_race", 64, 0, &[out.as_mut_ptr()], &[], order).unwrap();
        out
    });
    assert_ne!(results[0], results[1]);
}

#[test]
fn arguments_are_counted_and_measured() {
    let mut out = vec![0];
    let error = launch("self_test_race", 64, 0, &[], &[], 0).unwrap_err().to_string();
    assert_eq!(error, "self_test_race: expects 1 arguments, got 0");
    let error = launch("self_test_race", 64, 0, &[], &[3], 0).unwrap_err().to_string();
    assert_eq!(error, "self_test_race: argument 0 has 4 bytes, expected 8");
    let error = launch("no_such", 64, 0, &[out.as_mut_ptr()], &[], 0).unwrap_err().to_string();
    assert_eq!(error, "no_such: no such kernel");
}

/// For the script with the sanitizers, which expects this to end the program.
#[test]
#[ignore = "writes past the end of an array"]
fn overrun() {
    let mut out = vec![0; 5];
    let in_shared = i32::from(std::env::var("DAPO_OVERRUN").is_ok_and(|memory| memory == "shared"));
    launch("self_test_overrun", 1, 5 * 4, &[out.as_mut_ptr()], &[5, in_shared], 0).unwrap();
}
