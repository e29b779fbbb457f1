//! The decoder's parameters kept equal to variables of Candle.

use super::Decoder;
use crate::backend::ParameterId;
use crate::error::PolicyError;
use candle_core::Var;
use dapo_kernels::values;
use rayon::prelude::*;

/// Values of one comparison.
const BLOCK: usize = 1 << 16;

impl Decoder {
    /// Takes the values of variables, one for each of [`Decoder::parameters`], where a bit differs; whether any did.
    pub(crate) fn follow(&mut self, vars: &[Var]) -> Result<bool, PolicyError> {
        let Some(set) = self.spec.trained.set() else { return Ok(false) };
        let mut changed = false;
        for (index, var) in vars.iter().enumerate() {
            let id = ParameterId { set, index };
            let theirs = values(var)?;
            let own = self.backend.read(id)?;
            if !same_bits(&values(&own)?, &theirs) {
                self.backend.write(id, &theirs)?;
                changed = true;
            }
        }
        Ok(changed)
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    let blocks = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK));
    let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0, |d, (a, b)| d | (a.to_bits() ^ b.to_bits()));
    a.len() == b.len() && blocks.into_par_iter().all(|(a, b)| difference(a, b) == 0)
}
