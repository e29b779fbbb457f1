//! GEMMs on a GPU by cuBLAS, and the same by loops where kernels are emulated.
//!
//! Matrices are row by row, with any distance between rows. Sums are in f32, in an order that depends on the shapes alone.

pub use super::call::{Form, Output};
use super::gpu::{Backend, Gpu};
use super::memory::{Element, In, Out, Sink, Source};
use candle_core::{Result, bail};

/// A matrix: its elements, and how many there are from each row to the next.
#[derive(Clone, Debug)]
pub struct Matrix<'a, T> {
    /// The elements.
    pub data: In<'a, T>,
    /// From row to row.
    pub stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows without gaps.
    pub fn rows(data: In<'a, T>, width: usize) -> Self {
        Self { data, stride: width }
    }
}

/// C `[m, n]` from A and B, `c_stride` elements from row to row.
///
/// # Shapes
/// As [`Form`] says, for `[m, n, k]`. A GEMM of f32 gives f32; of bf16, bf16 or f32.
///
/// # Errors
/// When a matrix is too small, the types do not go together, or the device fails.
pub fn gemm<X: Element, Y: Element>(
    gpu: &Gpu,
    form: Form,
    shape: [usize; 3],
    a: Matrix<'_, X>,
    b: Matrix<'_, X>,
    c: Out<'_, Y>,
    c_stride: usize,
    into: Output,
) -> Result<()> {
    scaled_gemm(gpu, form, shape, 1.0, a, b, c, c_stride, into)
}

/// [`gemm`], the product times `scale`.
///
/// # Errors
/// As [`gemm`].
pub fn scaled_gemm<X: Element, Y: Element>(
    gpu: &Gpu,
    form: Form,
    [m, n, k]: [usize; 3],
    scale: f32,
    a: Matrix<'_, X>,
    b: Matrix<'_, X>,
    c: Out<'_, Y>,
    c_stride: usize,
    into: Output,
) -> Result<()> {
    if X::pick(true, false) && Y::pick(false, true) {
        bail!("gemm: a GEMM of f32 in bf16, expected f32");
    }
    let (a_shape, b_shape) = match form {
        Form::Plain => ((m, k), (k, n)),
        Form::RightTransposed => ((m, k), (n, k)),
        Form::LeftTransposed => ((k, m), (k, n)),
    };
    check("a", a.data.len(), a_shape, a.stride)?;
    check("b", b.data.len(), b_shape, b.stride)?;
    check("c", c.len(), (m, n), c_stride)?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    match (&gpu.0, a.data.0, b.data.0, c.0) {
        #[cfg(feature = "cuda")]
        (Backend::Driver(driver), Source::Device(x), Source::Device(y), Sink::Device(c)) => {
            driver.gemm(form, [m, n, k], scale, (x, a.stride), (y, b.stride), (c, c_stride), into)
        }
        #[cfg(feature = "emulate")]
        (Backend::Emulator(_), Source::Host(x), Source::Host(y), Sink::Host(c)) => {
            loops::gemm(form, [m, n, k], scale, (x, a.stride), (y, b.stride), (c, c_stride), into);
            Ok(())
        }
        #[cfg(all(feature = "cuda", feature = "emulate"))]
        _ => bail!("gemm: memory of the host for a device, or the reverse"),
    }
}

fn check(name: &str, len: usize, (rows, width): (usize, usize), stride: usize) -> Result<()> {
    if stride < width || (rows > 0 && len < (rows - 1) * stride + width) {
        bail!("gemm: {name} has {len} values, expected {rows} rows of {width} with {stride} from each to the next");
    }
    Ok(())
}

#[cfg(feature = "emulate")]
mod loops {
    use super::{Element, Form, Output};
    use rayon::prelude::*;

    /// The matrix, transposed where asked for, as f32 without gaps.
    fn floats<T: Element>((data, stride): (&[T], usize), rows: usize, columns: usize, transposed: bool) -> Vec<f32> {
        let at = |r: usize, c: usize| if transposed { data[c * stride + r] } else { data[r * stride + c] };
        (0..rows).flat_map(|r| (0..columns).map(move |c| at(r, c).to_f32())).collect()
    }

    pub(super) fn gemm<X: Element + Sync, Y: Element + Send>(
        form: Form,
        [m, n, k]: [usize; 3],
        scale: f32,
        a: (&[X], usize),
        b: (&[X], usize),
        (c, c_stride): (&mut [Y], usize),
        into: Output,
    ) {
        let a = floats(a, m, k, form == Form::LeftTransposed);
        let b = floats(b, k, n, form == Form::RightTransposed);
        c.par_chunks_mut(c_stride).take(m).enumerate().for_each(|(i, row)| {
            let mut sums = vec![0.0f32; n];
            for (x, b) in a[i * k..(i + 1) * k].iter().zip(b.chunks_exact(n)) {
                sums.iter_mut().zip(b).for_each(|(sum, y)| *sum += x * y);
            }
            for (c, sum) in row.iter_mut().zip(sums) {
                let before = if into == Output::Add { c.to_f32() } else { 0.0 };
                *c = Y::from_f32(before + scale * sum);
            }
        });
    }
}
