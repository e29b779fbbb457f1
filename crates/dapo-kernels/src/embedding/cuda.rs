//! Rows of the embedding table on a GPU, and the table's gradient.
//!
//! Letters: T tokens, V vocabulary, H width, U distinct tokens.

use super::{Buffer, Element, Gpu, In, Kernel, Launch, Out, expect_len, row_threads};
use candle_core::{Result, bail};

/// y\[t\] = table\[token\[t\]\].
///
/// # Shapes
/// table `[V, H]`, tokens `[T]`, y `[T, H]`; `width` is H. The tokens are on the device and not checked: they must be
/// below V.
///
/// # Errors
/// When sizes disagree.
pub fn gather<T: Element>(gpu: &Gpu, table: In<'_, T>, tokens: In<'_, u32>, width: usize, y: Out<'_, T>) -> Result<()> {
    let rows = tokens.len();
    check_table("embedding", table.len(), width)?;
    expect_len("embedding", "y", y.len(), rows * width)?;
    let kernel = Kernel::new("embedding", T::pick("embedding_gather_f32", "embedding_gather_bf16"));
    Launch::new(gpu, kernel).input(table).input(tokens).output(y).int(width).run(
        [rows, 1, 1],
        [row_threads(width, 16 / size_of::<T>()), 1, 1],
        0,
    )
}

/// The rows in which each distinct token occurs, so that its gradient is summed in one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrences {
    /// U distinct tokens, ascending.
    pub tokens: Vec<u32>,
    /// U + 1 offsets into `rows`.
    pub starts: Vec<u32>,
    /// T rows, by token and then ascending.
    pub rows: Vec<u32>,
}

impl Occurrences {
    /// Sorts the rows by their tokens.
    ///
    /// ```
    /// let occurrences = dapo_kernels::cuda::embedding::Occurrences::of(&[7, 3, 7]);
    /// assert_eq!(occurrences.tokens, [3, 7]);
    /// assert_eq!((occurrences.starts, occurrences.rows), (vec![0, 1, 3], vec![1, 0, 2]));
    /// ```
    pub fn of(tokens: &[u32]) -> Self {
        let mut rows: Vec<u32> = (0..tokens.len() as u32).collect();
        rows.sort_by_key(|row| (tokens[*row as usize], *row));
        let (mut distinct, mut starts) = (Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let token = tokens[*row as usize];
            if distinct.last() != Some(&token) {
                distinct.push(token);
                starts.push(i as u32);
            }
        }
        starts.push(rows.len() as u32);
        Self { tokens: distinct, starts, rows }
    }

    /// Copies them to the device.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn upload(&self, gpu: &Gpu) -> Result<DeviceOccurrences> {
        Ok(DeviceOccurrences {
            tokens: gpu.upload(&self.tokens)?,
            starts: gpu.upload(&self.starts)?,
            rows: gpu.upload(&self.rows)?,
            last: self.tokens.last().copied(),
        })
    }
}

/// [`Occurrences`] on the device.
#[derive(Debug)]
pub struct DeviceOccurrences {
    tokens: Buffer<u32>,
    starts: Buffer<u32>,
    rows: Buffer<u32>,
    last: Option<u32>,
}

/// gradient\[token\] += the sum of dy over the token's rows, in their order.
///
/// # Shapes
/// dy `[T, H]`, gradient `[V, H]` in f32.
///
/// # Errors
/// When sizes disagree, or a token is outside the table.
pub fn accumulate<T: Element>(
    gpu: &Gpu,
    dy: In<'_, T>,
    occurrences: &DeviceOccurrences,
    width: usize,
    gradient: Out<'_, f32>,
) -> Result<()> {
    let vocab = check_table("embedding gradient", gradient.len(), width)?;
    expect_len("embedding gradient", "dy", dy.len(), occurrences.rows.len() * width)?;
    if let Some(last) = occurrences.last.filter(|last| *last as usize >= vocab) {
        bail!("embedding gradient: token {last} is outside the vocabulary of {vocab}");
    }
    let kernel = Kernel::new("embedding", T::pick("embedding_accumulate_f32", "embedding_accumulate_bf16"));
    // Few columns a block: a frequent token's rows are summed one after the other, so its columns must spread.
    let threads = 64;
    let vector = 16 / size_of::<T>();
    let columns = if width.is_multiple_of(vector) { threads * vector } else { threads };
    let launch = Launch::new(gpu, kernel).input(dy).input(occurrences.tokens.view());
    let launch = launch.input(occurrences.starts.view()).input(occurrences.rows.view()).output(gradient);
    launch.int(width).run([occurrences.tokens.len(), width.div_ceil(columns), 1], [threads, 1, 1], 0)
}

fn check_table(op: &str, len: usize, width: usize) -> Result<usize> {
    if width == 0 || !len.is_multiple_of(width) {
        bail!("{op}: a table of {len} values has no whole rows of {width}");
    }
    Ok(len / width)
}
