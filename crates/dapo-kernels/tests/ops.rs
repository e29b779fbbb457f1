//! Every operation against the same formula composed of candle's own differentiable operations: values and gradients.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor, Var};
use dapo_kernels::RotaryTable;
use dapo_kernels::attention::{Heads, KvCache, Segments};
use dapo_kernels::ops::{
    LowRank, attention, decode_attention, inject_gradient, linear, low_rank_linear, norm_rope, pack, rms_norm, swiglu,
};
use std::sync::Arc;

fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn var(shape: &[usize], seed: u64) -> Var {
    let n = shape.iter().product();
    Var::from_tensor(&Tensor::from_vec(values(n, seed), shape, &Device::Cpu).expect("tensor")).expect("var")
}

fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a.to_dtype(DType::F32).unwrap() - b).unwrap().abs().unwrap();
    let worst = difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let scale = b.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    worst / scale.max(1e-3)
}

/// Compares values, and the gradients of Σ y·g for every variable.
fn same(ours: &Tensor, reference: &Tensor, variables: &[&Var]) {
    assert!(max_difference(ours, reference) < 2e-5, "value: {}", max_difference(ours, reference));
    let g = var(ours.dims(), 99);
    let ours = inject_gradient(ours, g.as_tensor()).unwrap().backward().unwrap();
    let reference = (reference * g.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    for (i, variable) in variables.iter().enumerate() {
        let (a, b) = (ours.get(variable).expect("gradient"), reference.get(variable).expect("reference gradient"));
        let difference = max_difference(a, b);
        assert!(difference < 5e-5, "gradient of variable {i}: {difference}");
    }
}

#[test]
fn linear_is_a_matrix_product_with_a_bias() {
    for (t, n, k) in [(1, 5, 3), (33, 70, 96), (300, 128, 64)] {
        let (x, w, b) = (var(&[t, k], 1), var(&[n, k], 2), var(&[n], 3));
        let product = x.matmul(&w.t().unwrap()).unwrap();
        same(&linear(&x, &w, &pack(&w).unwrap(), None).unwrap(), &product, &[&x, &w]);
        let with_bias = product.broadcast_add(&b).unwrap();
        same(&linear(&x, &w, &pack(&w).unwrap(), Some(&b)).unwrap(), &with_bias, &[&x, &w, &b]);
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient_and_its_input_does() {
    let (x, w) = (var(&[4, 6], 1), var(&[5, 6], 2));
    let y = linear(&x, &w.as_detached_tensor(), &pack(&w).unwrap(), None).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_some());
    assert!(gradients.get(&w).is_none());
}

/// Low-rank addition to a frozen layer, with its packed copies made on the spot.
fn low_rank(x: &Tensor, w: &Var, bias: Option<&Var>, a: &Var, b: &Var, scale: f32) -> Result<Tensor> {
    let (packed_a, packed_b) = (pack(a).unwrap(), pack(b).unwrap());
    let addition = LowRank { a, packed_a: &packed_a, b, packed_b: &packed_b, scale };
    let bias = bias.map(Var::as_detached_tensor);
    low_rank_linear(x, &w.as_detached_tensor(), &pack(w).unwrap(), bias.as_ref(), addition)
}

#[test]
fn low_rank_linear_adds_the_scaled_product_of_its_factors() {
    for (t, n, k, r) in [(1, 5, 3, 1), (33, 70, 96, 4), (300, 128, 64, 40)] {
        let (x, w, bias) = (var(&[t, k], 1), var(&[n, k], 2), var(&[n], 3));
        let (a, b) = (var(&[r, k], 4), var(&[n, r], 5));
        let product = |x: &Tensor, w: &Tensor| x.matmul(&w.t().unwrap()).unwrap();
        let addition = (product(&product(&x, &a), &b) * 1.7).unwrap();
        let plain = (product(&x, &w.as_detached_tensor()) + addition).unwrap();
        same(&low_rank(&x, &w, None, &a, &b, 1.7).unwrap(), &plain, &[&x, &a, &b]);
        let with_bias = plain.broadcast_add(&bias.as_detached_tensor()).unwrap();
        let ours = low_rank(&x, &w, Some(&bias), &a, &b, 1.7).unwrap();
        same(&ours, &with_bias, &[&x, &a, &b]);
        let gradients = ours.sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&w).is_none() && gradients.get(&bias).is_none());
    }
}

#[test]
fn low_rank_linear_needs_no_gradient_of_its_input() {
    let (x, w, a, b) = (var(&[4, 6], 1), var(&[5, 6], 2), var(&[2, 6], 3), var(&[5, 2], 4));
    let gradients = |x: &Tensor| low_rank(x, &w, None, &a, &b, 0.5).unwrap().sum_all().unwrap().backward().unwrap();
    let (with, without) = (gradients(&x), gradients(&x.as_detached_tensor()));
    assert!(with.get(&x).is_some() && without.get(&x).is_none());
    for factor in [&a, &b] {
        assert_eq!(max_difference(with.get(factor).unwrap(), without.get(factor).unwrap()), 0.0);
    }
}

#[test]
fn a_low_rank_addition_of_zero_leaves_the_bits_of_the_frozen_layer() {
    let (x, w, a) = (var(&[70, 96], 1), var(&[40, 96], 2), var(&[8, 96], 3));
    let zero = Var::zeros((40, 8), DType::F32, &Device::Cpu).unwrap();
    let with = low_rank(&x, &w, None, &a, &zero, 2.0).unwrap().to_vec2::<f32>().unwrap();
    let plain = linear(&x, &w.as_detached_tensor(), &pack(&w).unwrap(), None).unwrap();
    assert_eq!(with, plain.to_vec2::<f32>().unwrap());
    // A row's bits do not depend on the rows beside it.
    let b = var(&[40, 8], 4);
    let all = low_rank(&x, &w, None, &a, &b, 2.0).unwrap().to_vec2::<f32>().unwrap();
    let one = low_rank(&x.narrow(0, 37, 1).unwrap().contiguous().unwrap(), &w, None, &a, &b, 2.0).unwrap();
    assert_eq!(one.to_vec2::<f32>().unwrap()[0], all[37]);
}

#[test]
fn low_rank_linear_refuses_wrong_factors_and_weights_that_record_gradients() {
    let (x, w, a, b) = (var(&[4, 6], 1), var(&[5, 6], 2), var(&[2, 6], 3), var(&[5, 2], 4));
    let message = |a: &Var, b: &Var| low_rank(&x, &w, None, a, b, 1.0).unwrap_err().to_string();
    assert!(message(&var(&[2, 5], 3), &b).contains("A has shape [2, 5] (packed [2, 5]), expected [2, 6]"));
    assert!(message(&a, &var(&[5, 3], 4)).contains("B has shape [5, 3] (packed [5, 3]), expected [5, 2]"));
    let (packed_a, packed_b) = (pack(&a).unwrap(), pack(&b).unwrap());
    let addition = LowRank { a: &a, packed_a: &packed_a, b: &b, packed_b: &packed_b, scale: 1.0 };
    let error = low_rank_linear(&x, &w, &pack(&w).unwrap(), None, addition).unwrap_err().to_string();
    assert!(error.contains("records gradients"), "{error}");
}

#[test]
fn frozen_norms_get_no_gradient_and_their_inputs_do() {
    let (x, w) = (var(&[4, 32], 1), var(&[32], 2));
    let table = Arc::new(RotaryTable::new(&[0, 1, 2, 3], 32, 1e4));
    let frozen = w.as_detached_tensor();
    for y in [rms_norm(&x, &frozen, 1e-6).unwrap(), norm_rope(&x, Some((&frozen, 1e-6)), &table).unwrap()] {
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&x).is_some());
        assert!(gradients.get(&frozen).is_none());
    }
}

fn composed_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(candle_core::D::Minus1)? + eps)?.sqrt()?.recip()?;
    x.broadcast_mul(&scale)?.broadcast_mul(w)
}

#[test]
fn rms_norm_divides_by_the_root_mean_square() {
    for (t, h) in [(1, 1), (7, 96), (200, 130)] {
        let (x, w) = (var(&[t, h], 1), var(&[h], 2));
        same(&rms_norm(&x, &w, 1e-5).unwrap(), &composed_norm(&x, &w, 1e-5).unwrap(), &[&x, &w]);
    }
}

#[test]
fn swiglu_is_silu_of_the_gate_times_up() {
    let (g, u) = (var(&[70, 333], 1), var(&[70, 333], 2));
    let g = Var::from_tensor(&(g.as_tensor() * 8.0).unwrap()).unwrap();
    let reference = (g.silu().unwrap() * u.as_tensor()).unwrap();
    same(&swiglu(&g, &u).unwrap(), &reference, &[&g, &u]);
}

fn composed_rope(x: &Tensor, positions: &[u32], heads: usize, dim: usize, theta: f64) -> Result<Tensor> {
    let (t, half) = (positions.len(), dim / 2);
    let angles: Vec<f32> = positions
        .iter()
        .flat_map(|p| (0..half).map(move |i| *p as f32 * (1.0 / theta.powf(2.0 * i as f64 / dim as f64)) as f32))
        .collect();
    let angles = Tensor::from_vec(angles, (t, 1, half), &Device::Cpu)?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let x = x.reshape((t, heads, dim))?;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], 2)?.reshape((t, heads * dim))
}

#[test]
fn norm_rope_rotates_the_halves_of_every_normed_head() {
    let (t, heads, dim) = (70, 3, 32);
    let positions: Vec<u32> = (0..t as u32).map(|i| (i * 37) % 500).collect();
    let table = Arc::new(RotaryTable::new(&positions, dim, 1e4));
    let (x, w) = (var(&[t, heads * dim], 1), var(&[dim], 2));
    let plain = composed_rope(&x, &positions, heads, dim, 1e4).unwrap();
    same(&norm_rope(&x, None, &table).unwrap(), &plain, &[&x]);
    let normed = composed_norm(&x.reshape((t, heads, dim)).unwrap(), &w, 1e-6).unwrap();
    let normed = composed_rope(&normed.reshape((t, heads * dim)).unwrap(), &positions, heads, dim, 1e4).unwrap();
    same(&norm_rope(&x, Some((&w, 1e-6)), &table).unwrap(), &normed, &[&x, &w]);
}

/// Attention of each segment with an explicit `[T, T]` matrix; a parent's rows are repeated before its continuation's.
fn composed_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, segments: &Segments) -> Result<Tensor> {
    let group = heads.query / heads.key_value;
    let mut rows = Vec::new();
    for segment in segments.list() {
        let own = |x: &Tensor| x.narrow(0, segment.start, segment.len);
        let seen = |x: &Tensor| match segments.parent(segment) {
            Some(p) => Tensor::cat(&[x.narrow(0, p.start, p.len)?, own(x)?], 0),
            None => own(x),
        };
        let (q, k, v) = (own(q)?, seen(k)?, seen(v)?);
        let before = k.dim(0)? - segment.len;
        let mask: Vec<f32> = (0..segment.len)
            .flat_map(|i| (0..k.dims()[0]).map(move |j| if j > before + i { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        let mask = Tensor::from_vec(mask, (segment.len, k.dim(0)?), &Device::Cpu)?;
        let mut columns = Vec::new();
        for head in 0..heads.query {
            let q = q.narrow(1, head * heads.dim, heads.dim)?;
            let k = k.narrow(1, head / group * heads.dim, heads.dim)?;
            let v = v.narrow(1, head / group * heads.dim, heads.dim)?;
            let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? / (heads.dim as f64).sqrt())?;
            let scores = scores.broadcast_add(&mask)?;
            columns.push(candle_nn::ops::softmax(&scores, 1)?.matmul(&v.contiguous()?)?);
        }
        rows.push(Tensor::cat(&columns, 1)?);
    }
    Tensor::cat(&rows, 0)
}

#[test]
fn attention_is_causal_within_segments_and_sees_the_parent() {
    type Layout = Vec<(usize, Option<usize>)>;
    let cases: [(Heads, Layout); 3] = [
        (Heads { query: 4, key_value: 2, dim: 32 }, vec![(70, None), (1, None), (33, None)]),
        (
            Heads { query: 3, key_value: 1, dim: 40 },
            vec![(9, None), (40, Some(0)), (5, None), (3, Some(0)), (31, Some(2))],
        ),
        (Heads { query: 2, key_value: 2, dim: 64 }, vec![(32, None), (32, Some(0)), (65, Some(0))]),
    ];
    for (heads, layout) in cases {
        let segments = Arc::new(Segments::new(layout).unwrap());
        let t = segments.total();
        let q = var(&[t, heads.query * heads.dim], 1);
        let (k, v) = (var(&[t, heads.key_value * heads.dim], 2), var(&[t, heads.key_value * heads.dim], 3));
        let ours = attention(&q, &k, &v, heads, &segments).unwrap();
        same(&ours, &composed_attention(&q, &k, &v, heads, &segments).unwrap(), &[&q, &k, &v]);
    }
}

#[test]
fn attention_has_the_same_bits_for_a_shared_prompt_an_own_copy_and_the_cache() {
    let heads = Heads { query: 4, key_value: 2, dim: 32 };
    let (prompt, completion) = (37, 50);
    let total = prompt + completion;
    let q = Tensor::from_vec(values(total * 128, 1), (total, 128), &Device::Cpu).unwrap();
    let k = Tensor::from_vec(values(total * 64, 2), (total, 64), &Device::Cpu).unwrap();
    let v = Tensor::from_vec(values(total * 64, 3), (total, 64), &Device::Cpu).unwrap();
    let whole = Arc::new(Segments::new([(total, None)]).unwrap());
    let shared = Arc::new(Segments::new([(prompt, None), (completion, Some(0))]).unwrap());
    let a = attention(&q, &k, &v, heads, &whole).unwrap().to_vec2::<f32>().unwrap();
    let b = attention(&q, &k, &v, heads, &shared).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(a, b);
    let mut cache = KvCache::new(heads, total);
    let row = |x: &Tensor, i: usize| x.narrow(0, i, 1).unwrap().contiguous().unwrap();
    for (i, expected) in a.iter().enumerate() {
        if i == prompt {
            cache = cache.fork(total + 40);
        }
        let out =
            decode_attention(&row(&q, i), &row(&k, i), &row(&v, i), heads, std::slice::from_mut(&mut cache)).unwrap();
        assert_eq!(&out.to_vec2::<f32>().unwrap()[0], expected, "position {i}");
    }
}

#[test]
fn decoding_refuses_to_lose_a_gradient_silently() {
    let heads = Heads { query: 1, key_value: 1, dim: 4 };
    let x = var(&[1, 4], 1);
    let error = decode_attention(&x, &x, &x, heads, &mut [KvCache::new(heads, 1)]).unwrap_err();
    assert!(error.to_string().contains("records gradients"), "{error}");
}

/// The claim of the module's documentation, on the version of candle-nn that the workspace uses.
#[test]
fn gradients_that_candle_nn_drops_flow_through() {
    let (x, w) = (var(&[4, 32], 1), var(&[32], 2));
    let theirs = candle_nn::ops::rms_norm(&x, &w, 1e-6).unwrap();
    let ours = rms_norm(&x, &w, 1e-6).unwrap();
    assert!(max_difference(&ours, &theirs) < 2e-5);
    let gradients = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let (theirs, ours) = (gradients(&theirs), gradients(&ours));
    assert!(theirs.get(&x).is_none() && theirs.get(&w).is_none());
    assert!(ours.get(&x).is_some() && ours.get(&w).is_some());

    let rotated = x.reshape((1, 1, 4, 32)).unwrap();
    let angles = Tensor::zeros((4, 16), DType::F32, &Device::Cpu).unwrap();
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let theirs = gradients(&candle_nn::rotary_emb::rope(&rotated, &cos, &sin).unwrap());
    let table = Arc::new(RotaryTable::new(&[0; 4], 32, 1e4));
    let ours = gradients(&norm_rope(&x, None, &table).unwrap());
    assert!(theirs.get(&x).is_none() && ours.get(&x).is_some());
}

#[test]
fn an_injected_gradient_is_scaled_by_the_gradient_of_its_scalar() {
    let (x, g) = (var(&[2, 3], 1), var(&[2, 3], 2));
    let scalar = inject_gradient(&x, &g).unwrap();
    assert_eq!(scalar.to_scalar::<f32>().unwrap(), 0.0);
    let gradients = scalar.affine(3.0, 1.0).unwrap().backward().unwrap();
    assert_eq!(max_difference(gradients.get(&x).unwrap(), &(g.as_tensor() * 3.0).unwrap()), 0.0);
}
