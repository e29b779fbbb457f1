use crate::common::{Checked, Numbers, SUMS, assert_close, floats, in_every_order};
use dapo_kernels::cuda::embedding::{Occurrences, accumulate, gather};
use half::bf16;

fn agrees<T: Checked>() {
    let mut numbers = Numbers::new(1);
    for (vocab, width, count) in [(1, 1, 1), (11, 7, 40), (300, 1024, 9), (5, 1030, 21), (90, 8, 400)] {
        let table: Vec<T> = numbers.values(vocab * width, 2.0);
        let dy: Vec<T> = numbers.values(count * width, 1.0);
        let before: Vec<f32> = numbers.values(vocab * width, 1.0);
        let tokens: Vec<u32> = (0..count).map(|_| numbers.below(vocab) as u32).collect();
        let results = in_every_order(|gpu| {
            let (table, device_tokens, dy) = (gpu.upload(&table)?, gpu.upload(&tokens)?, gpu.upload(&dy)?);
            let (mut y, mut gradient) = (gpu.zeros::<T>(count * width)?, gpu.upload(&before)?);
            gather(gpu, table.view(), device_tokens.view(), width, y.view_mut())?;
            let occurrences = Occurrences::of(&tokens).upload(gpu)?;
            accumulate(gpu, dy.view(), &occurrences, width, gradient.view_mut())?;
            Ok(vec![floats(&gpu.read(y.view())?), gpu.read(gradient.view())?])
        });
        let rows = tokens.iter().flat_map(|t| floats(&table[*t as usize * width..][..width])).collect::<Vec<_>>();
        assert_eq!(results[0], rows);
        let mut expected = before.clone();
        for (token, dy) in tokens.iter().zip(dy.chunks(width)) {
            for (sum, dy) in expected[*token as usize * width..].iter_mut().zip(dy) {
                *sum += dy.to_f32();
            }
        }
        assert_close("embedding gradient", &results[1], &expected, SUMS);
    }
}

#[test]
fn rows_are_gathered_and_their_gradients_summed() {
    agrees::<f32>();
    agrees::<bf16>();
}

#[test]
fn a_token_outside_the_table_is_refused() {
    let gpu = crate::gpu();
    let occurrences = Occurrences::of(&[1, 4]).upload(&gpu).unwrap();
    let (dy, mut gradient) = (gpu.zeros::<f32>(6).unwrap(), gpu.zeros(12).unwrap());
    let error = accumulate(&gpu, dy.view(), &occurrences, 3, gradient.view_mut()).unwrap_err().to_string();
    assert!(error.starts_with("embedding gradient: token 4 is outside the vocabulary of 4"), "{error}");
}
