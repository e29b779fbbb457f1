//! Choosing an instruction set at run time, and the scalar mathematics that every kernel shares.
//!
//! A kernel is written once, as an `#[inline(always)]` function generic over `FMA`, and compiled for AVX-512, for
//! AVX2 with FMA and for the baseline of the target. Sums run over [`LANES`] partial sums, so their order, and with
//! it every bit of a result, depends on the type of CPU alone: never on the number of rows or threads.

#![expect(unsafe_code, reason = "calling functions compiled for a detected instruction set")]

use std::sync::OnceLock;

/// Number of partial sums of a reduction, and columns of a panel of packed weights.
pub const LANES: usize = 32;

/// Instruction sets that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// What the compiler may assume of every CPU of the target.
    Portable,
}

/// The best instruction set of this CPU; detected once.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}

/// Whether this CPU multiplies pairs in bf16 in one instruction (AVX512-BF16). Without it they are multiplied one after
/// the other.
pub(crate) fn has_bf16_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        isa() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether the portable code uses fused multiply-add: where it is an instruction, not a library call.
pub(crate) const PORTABLE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Defines a function compiled once per [`Isa`] from the generic `$body::<FMA>`.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$meta])*
        #[expect(unsafe_code, reason = "calling functions compiled for a detected instruction set")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` has found the instruction set on this CPU.
                    $crate::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Isa::Portable => {}
                }
            }
            $body::<{ $crate::simd::PORTABLE_FMA }>($($arg),*)
        }
    };
}
pub(crate) use dispatch;

/// `a * b + c`, fused where the instruction set has it.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Asks for the cache line at `index` of `data` before it is needed; past the end is allowed.
#[inline(always)]
pub(crate) fn prefetch(data: &[f32], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program sees, and no address faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(data.as_ptr().wrapping_add(index).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, index);
}

/// e^x to about one unit in the last place for x in [-87.3, 88]; clamped outside, so the result is finite and positive.
///
/// Branch-free: x = n·ln 2 + r, a polynomial in r, and n added to the exponent.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.0);
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = mul_add::<FMA>(n, -LN2_LO, mul_add::<FMA>(n, -LN2_HI, x));
    let p = mul_add::<FMA>(r, 1.987_569_1e-4, 1.398_199_9e-3);
    let p = mul_add::<FMA>(r, p, 8.333_452e-3);
    let p = mul_add::<FMA>(r, p, 4.166_579_6e-2);
    let p = mul_add::<FMA>(r, p, 1.666_666_5e-1);
    let p = mul_add::<FMA>(r, p, 0.5);
    let p = mul_add::<FMA>(r * r, p, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// The largest element; negative infinity without elements.
#[inline(always)]
pub(crate) fn maximum(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut last = lanes;
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for l in 0..LANES {
            lanes[l] = if chunk[l] > lanes[l] { chunk[l] } else { lanes[l] };
        }
    }
    largest(lanes)
}

/// The largest lane.
#[inline(always)]
pub(crate) fn largest(lanes: [f32; LANES]) -> f32 {
    halve(lanes, Quad::larger)
}

/// Adds up the partial sums, pairwise.
#[inline(always)]
pub(crate) fn fold(lanes: [f32; LANES]) -> f32 {
    halve(lanes, Quad::plus)
}

/// Combines the upper half of the lanes with the lower one until one is left.
#[inline(always)]
fn halve(lanes: [f32; LANES], combine: impl Fn(Quad, Quad) -> Quad) -> f32 {
    let at = |i: usize| Quad::new([lanes[4 * i], lanes[4 * i + 1], lanes[4 * i + 2], lanes[4 * i + 3]]);
    let sixteen: [Quad; 4] = std::array::from_fn(|i| combine(at(i), at(i + 4)));
    let eight: [Quad; 2] = std::array::from_fn(|i| combine(sixteen[i], sixteen[i + 2]));
    let four = combine(eight[0], eight[1]);
    let two = combine(four, four.upper());
    combine(two, two.second()).first()
}

/// Four lanes. The compiler, left to itself, takes them out of their vectors one by one.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Quad(std::arch::x86_64::__m128);

#[cfg(target_arch = "x86_64")]
impl Quad {
    #[inline(always)]
    fn new([a, b, c, d]: [f32; 4]) -> Self {
        // SAFETY: SSE belongs to x86-64.
        Self(unsafe { std::arch::x86_64::_mm_setr_ps(a, b, c, d) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { std::arch::x86_64::_mm_add_ps(self.0, other.0) })
    }

    /// Where neither is larger, `self`'s.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { std::arch::x86_64::_mm_max_ps(other.0, self.0) })
    }

    #[inline(always)]
    fn upper(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { std::arch::x86_64::_mm_movehl_ps(self.0, self.0) })
    }

    #[inline(always)]
    fn second(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { std::arch::x86_64::_mm_shuffle_ps::<0b01_01_01_01>(self.0, self.0) })
    }

    #[inline(always)]
    fn first(self) -> f32 {
        // SAFETY: as above.
        unsafe { std::arch::x86_64::_mm_cvtss_f32(self.0) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct Quad([f32; 4]);

#[cfg(not(target_arch = "x86_64"))]
impl Quad {
    #[inline(always)]
    fn new(lanes: [f32; 4]) -> Self {
        Self(lanes)
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| self.0[l] + other.0[l]))
    }

    /// Where neither is larger, `self`'s.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        Self(std::array::from_fn(|l| if other.0[l] > self.0[l] { other.0[l] } else { self.0[l] }))
    }

    #[inline(always)]
    fn upper(self) -> Self {
        let [_, _, c, d] = self.0;
        Self([c, d, c, d])
    }

    #[inline(always)]
    fn second(self) -> Self {
        Self([self.0[1]; 4])
    }

    #[inline(always)]
    fn first(self) -> f32 {
        self.0[0]
    }
}

/// Σ x_i · y_i in the lane order.
#[inline(always)]
pub(crate) fn sum_of_products<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks(), y.as_chunks());
    for (x, y) in x.iter().zip(y) {
        add_products::<FMA>(&mut lanes, x, y);
    }
    if !x_rest.is_empty() {
        // Lanes without an element get a product of zeros.
        let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
        x[..x_rest.len()].copy_from_slice(x_rest);
        y[..y_rest.len()].copy_from_slice(y_rest);
        add_products::<FMA>(&mut lanes, &x, &y);
    }
    fold(lanes)
}

#[inline(always)]
fn add_products<const FMA: bool>(lanes: &mut [f32; LANES], x: &[f32; LANES], y: &[f32; LANES]) {
    for l in 0..LANES {
        lanes[l] = mul_add::<FMA>(x[l], y[l], lanes[l]);
    }
}

/// A raw pointer that worker threads share; each writes its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(*mut f32);

// SAFETY: the kernels hand every task a range of its own.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Self(data.as_mut_ptr())
    }

    pub(crate) fn from_ptr(data: *mut f32) -> Self {
        Self(data)
    }

    pub(crate) fn ptr(self) -> *mut f32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_f64_to_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let got = f64::from(if i % 2 == 0 { exp::<true>(x) } else { exp::<false>(x) });
            worst = worst.max(((got - exact) / exact).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "relative error {worst:e}");
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<true>(f32::NEG_INFINITY) > 0.0);
    }

    #[test]
    fn lanes_are_combined_by_halves() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            ((state >> 40) as f32 - 8_388_608.0) * 1e-3
        };
        for _ in 0..1000 {
            let lanes: [f32; LANES] = std::array::from_fn(|_| next());
            let (mut sums, mut maxima) = (lanes.to_vec(), lanes.to_vec());
            while sums.len() > 1 {
                let half = sums.len() / 2;
                sums = (0..half).map(|l| sums[l] + sums[l + half]).collect();
                maxima = (0..half).map(|l| maxima[l].max(maxima[l + half])).collect();
            }
            assert_eq!((fold(lanes).to_bits(), largest(lanes)), (sums[0].to_bits(), maxima[0]));
        }
    }

    #[test]
    fn sum_of_products_adds_the_remainder() {
        let x: Vec<f32> = (0..77).map(|i| i as f32).collect();
        let y = vec![2.0; 77];
        assert_eq!(sum_of_products::<true>(&x, &y), 2.0 * (76.0 * 77.0 / 2.0));
    }
}
