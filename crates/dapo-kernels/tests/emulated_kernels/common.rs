//! Numbers to compute on, and how closely results must agree.

use candle_core::{Device, Tensor, Var};
use dapo_kernels::cuda::{Element, Gpu};
use half::bf16;

/// How far a result may be from its reference: `relative` of the value, and `absolute` of the array's root mean square.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) relative: f32,
    pub(crate) absolute: f32,
}

/// Element types and the tolerance of what is stored in them. The reference reads the same, already rounded inputs, and
/// both sides compute in f32, so that of bf16 is the rounding of the result: 2⁻⁸, and a little.
pub(crate) trait Checked: Element {
    const TOLERANCE: Tolerance;
}
impl Checked for f32 {
    const TOLERANCE: Tolerance = Tolerance { relative: 2e-6, absolute: 4e-6 };
}
impl Checked for bf16 {
    const TOLERANCE: Tolerance = Tolerance { relative: 3.95e-3, absolute: 1e-5 };
}
/// Sums over many rows, in f32 whatever the activations are.
pub(crate) const SUMS: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-5 };

/// Fails where `got` is not `expected`.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: Tolerance) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    let square_sum: f64 = expected.iter().map(|x| f64::from(*x).powi(2)).sum();
    let size = (square_sum / expected.len().max(1) as f64).sqrt() as f32;
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance.relative * expected.abs() + tolerance.absolute * size;
        let difference = (got - expected).abs();
        assert!(difference <= allowed, "{what}: value {i} is {got}, expected {expected} within {allowed:e}");
    }
}

/// Pseudo-random numbers.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) as usize) % n
    }

    /// In [−1, 1).
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// n values of about this size.
    pub(crate) fn values<T: Element>(&mut self, n: usize, size: f32) -> Vec<T> {
        (0..n).map(|_| T::from_f32(self.uniform() * size)).collect()
    }
}

pub(crate) fn floats<T: Element>(values: &[T]) -> Vec<f32> {
    values.iter().map(|x| x.to_f32()).collect()
}

/// Whether sanitizers watch the kernels, which makes them many times as slow: `scripts/cuda-emulation.sh`.
pub(crate) fn sanitized() -> bool {
    std::env::var_os("DAPO_EMULATION_SANITIZE").is_some()
}

/// Runs `f` several times, where kernels are emulated with other orders of blocks and threads, and returns its results,
/// which must not differ in a bit.
#[track_caller]
pub(crate) fn in_every_order(f: impl Fn(&Gpu) -> candle_core::Result<Vec<Vec<f32>>>) -> Vec<Vec<f32>> {
    let bits = |results: &[Vec<f32>]| -> Vec<Vec<u32>> {
        results.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let first = f(&crate::gpu()).unwrap();
    for gpu in crate::again() {
        let other = f(&gpu).unwrap();
        assert!(bits(&first) == bits(&other), "the result depends on the order of threads");
    }
    first
}

pub(crate) fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn variable(values: &[f32], shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(values, shape)).unwrap()
}

/// The gradients of Σ y·dy.
pub(crate) fn gradients(y: &Tensor, dy: &[f32], of: &[&Var]) -> Vec<Vec<f32>> {
    let dy = tensor(dy, y.dims());
    let store = (y * dy).unwrap().sum_all().unwrap().backward().unwrap();
    of.iter().map(|v| to_vec(store.get(v).expect("a gradient"))).collect()
}

pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
#[should_panic(expected = "value 1 is 2, expected -2")]
fn a_flipped_sign_fails() {
    assert_close("values", &[1.0, 2.0], &[1.0, -2.0], bf16::TOLERANCE);
}
