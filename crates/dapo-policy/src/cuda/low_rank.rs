//! Low-rank adapters on the device: y += s · B·(A·x) for each of the projections that read x, s = α / r.
//!
//! T tokens, n adapters that read the same x, r their rank; t = x · Aᵀ, `[T, n·r]`.

use super::array::Array;
use super::compute::Compute;
use super::gradients::CudaGradients;
use super::model::Model;
use super::slabs::AdapterSlabs;
use super::workspace::LowRank;
use candle_core::Result;
use dapo_kernels::cuda::In;
use dapo_kernels::cuda::gemm::{Form, Matrix, Output, gemm, scaled_gemm};

impl<T: Compute> Model<T> {
    /// t = x · Aᵀ; returns how wide it is.
    fn reduce(&self, x: In<'_, T>, of: &AdapterSlabs, width: usize, t: &mut Array<T>) -> Result<usize> {
        let (rows, low) = (x.len() / width, of.parts.len() * self.low_rank.0);
        let a = Matrix::rows(self.compute[of.a].view(), width);
        let to = t.sized(&self.gpu, rows * low)?;
        gemm(&self.gpu, Form::RightTransposed, [rows, low, width], Matrix::rows(x, width), a, to, low, Output::Write)?;
        Ok(low)
    }

    /// Adds the adapters' part to y `[T, out]`.
    pub(super) fn add_low_rank(
        &self,
        x: In<'_, T>,
        of: &AdapterSlabs,
        width: usize,
        t: &mut Array<T>,
        y: &mut Array<T>,
        out: usize,
    ) -> Result<()> {
        let (rows, (rank, scale)) = (x.len() / width, self.low_rank);
        let low = self.reduce(x, of, width, t)?;
        for (i, part) in of.parts.iter().enumerate() {
            let from = Matrix { data: t.part(i * rank, rows * low - i * rank)?, stride: low };
            let b = Matrix::rows(self.compute[part.b].view(), rank);
            let to = y.part_mut(part.start, rows * out - part.start)?;
            scaled_gemm(
                &self.gpu,
                Form::RightTransposed,
                [rows, part.out, rank],
                scale,
                from,
                b,
                to,
                out,
                Output::Add,
            )?;
        }
        Ok(())
    }

    /// Adds the adapters' part to dx `[T, in]`, and their gradients where they are trained, for x and dy `[T, out]`.
    pub(super) fn low_rank_backward(
        &self,
        x: &In<'_, T>,
        dy: &In<'_, T>,
        of: &AdapterSlabs,
        width: usize,
        out: usize,
        LowRank { t, d_t }: &mut LowRank<T>,
        dx: &mut Array<T>,
        gradients: &mut CudaGradients,
    ) -> Result<()> {
        let (gpu, rows, (rank, scale)) = (&self.gpu, x.len() / width, self.low_rank);
        let low = self.reduce(x.clone(), of, width, t)?;
        d_t.sized(gpu, rows * low)?;
        for (i, part) in of.parts.iter().enumerate() {
            let (start, len) = (i * rank, rows * low - i * rank);
            let dy = || Ok::<_, candle_core::Error>(Matrix { data: dy.slice(part.start..dy.len())?, stride: out });
            let b = Matrix::rows(self.compute[part.b].view(), rank);
            let to = d_t.part_mut(start, len)?;
            scaled_gemm(gpu, Form::Plain, [rows, rank, part.out], scale, dy()?, b, to, low, Output::Write)?;
            let t = Matrix { data: t.part(start, len)?, stride: low };
            let (db, into) = gradients.target(part.b);
            scaled_gemm(gpu, Form::LeftTransposed, [part.out, rank, rows], scale, dy()?, t, db, rank, into)?;
        }
        let d_t = || Ok::<_, candle_core::Error>(Matrix::rows(d_t.view()?, low));
        let (da, into) = gradients.target(of.a);
        gemm(gpu, Form::LeftTransposed, [low, width, rows], d_t()?, Matrix::rows(x.clone(), width), da, width, into)?;
        let a = Matrix::rows(self.compute[of.a].view(), width);
        gemm(gpu, Form::Plain, [rows, width, low], d_t()?, a, dx.view_mut()?, width, Output::Add)
    }
}
