//! Operands laid out in the order in which the tiles read them.

use super::{Lhs, micro, panel_width};
use crate::simd::{LANES, dispatch, prefetch};
use std::ops::Range;

/// Steps of k that copies ask for ahead of time.
const AHEAD: usize = 32;

/// Copies `columns` of the first `steps` rows into panels of `WIDTH` columns: several at a time, because memory is read
/// faster in longer runs. The last panel is padded with zeros.
#[inline(always)]
fn rows_to_panels<const WIDTH: usize>(
    source: &[f32],
    stride: usize,
    steps: usize,
    columns: usize,
    panel_size: usize,
    panels: &mut [f32],
) {
    let whole = columns / WIDTH;
    for (k, source) in source.chunks(stride).take(steps).enumerate() {
        for line in (0..columns).step_by(16) {
            prefetch(source, AHEAD * stride + line);
        }
        let (lines, rest) = source[..columns].as_chunks::<WIDTH>();
        for (panel, line) in lines.iter().enumerate() {
            panels[panel * panel_size + k * WIDTH..][..WIDTH].copy_from_slice(line);
        }
        if !rest.is_empty() {
            let row = &mut panels[whole * panel_size + k * WIDTH..][..WIDTH];
            row[..rest.len()].copy_from_slice(rest);
            row[rest.len()..].fill(0.0);
        }
    }
}

#[inline(always)]
fn pack_rows_body<const FMA: bool>(
    source: &[f32],
    stride: usize,
    steps: usize,
    columns: usize,
    panel_size: usize,
    panels: &mut [f32],
) {
    match panel_width() {
        LANES => rows_to_panels::<LANES>(source, stride, steps, columns, panel_size, panels),
        _ => rows_to_panels::<{ LANES / 2 }>(source, stride, steps, columns, panel_size, panels),
    }
}

dispatch! {
    pub(super) fn pack_rows(
        source: &[f32],
        stride: usize,
        steps: usize,
        columns: usize,
        panel_size: usize,
        panels: &mut [f32],
    ) = pack_rows_body;
}

/// At least `len` elements in an odd number of cache lines: neighbours at a power of two would share a few sets of the
/// cache.
pub(super) fn odd_lines(len: usize) -> usize {
    len.next_multiple_of(16) | 16
}

/// Lays out tiles of A, each as its steps of k one after another, every step as [`micro::max_rows`] rows, the last of
/// which a lower tile does not use. Tile i, of `rows[i]` of A, begins at `i * size`.
pub(super) fn pack_tiles(
    a: Lhs<'_>,
    rows: impl Iterator<Item = Range<usize>>,
    steps: usize,
    size: usize,
    tiles: &mut [f32],
) {
    if a.step == 1 {
        for (rows, tile) in rows.zip(tiles.chunks_exact_mut(size)) {
            pack_rows_of_tile(&a.data[rows.start * a.row..], a.row, rows.len(), steps, tile);
        }
        return;
    }
    assert_eq!(a.row, 1, "pack_tiles: neither rows nor steps are neighbours");
    let rows: Vec<Range<usize>> = rows.collect();
    pack_steps_of_tiles(a.data, a.step, &rows, steps, size, tiles);
}

/// A tile from rows that are `stride` apart. What the rows hold that a lower tile lacks does not matter.
#[inline(always)]
fn rows_of_tile<const ROWS: usize>(data: &[f32], stride: usize, rows: usize, steps: usize, tile: &mut [f32]) {
    const RUN: usize = 8;
    let whole = steps / RUN * RUN;
    let mut runs = [[0.0f32; RUN]; ROWS];
    for (start, tile) in (0..whole).step_by(RUN).zip(tile.chunks_exact_mut(RUN * ROWS)) {
        for (row, run) in runs[..rows].iter_mut().enumerate() {
            run.copy_from_slice(&data[row * stride + start..][..RUN]);
        }
        for step in 0..RUN {
            for row in 0..ROWS {
                tile[step * ROWS + row] = runs[row][step];
            }
        }
    }
    for row in 0..rows {
        for (step, value) in data[row * stride..][..steps].iter().enumerate().skip(whole) {
            tile[step * ROWS + row] = *value;
        }
    }
}

#[inline(always)]
fn pack_rows_of_tile_body<const FMA: bool>(data: &[f32], stride: usize, rows: usize, steps: usize, tile: &mut [f32]) {
    match micro::max_rows() {
        12 => rows_of_tile::<12>(data, stride, rows, steps, tile),
        6 => rows_of_tile::<6>(data, stride, rows, steps, tile),
        _ => rows_of_tile::<4>(data, stride, rows, steps, tile),
    }
}

dispatch! {
    fn pack_rows_of_tile(data: &[f32], stride: usize, rows: usize, steps: usize, tile: &mut [f32]) = pack_rows_of_tile_body;
}

/// Tiles from the transpose: steps are `stride` apart, rows neighbours.
#[inline(always)]
fn steps_of_tiles<const ROWS: usize>(
    data: &[f32],
    stride: usize,
    rows: &[Range<usize>],
    steps: usize,
    size: usize,
    tiles: &mut [f32],
) {
    let last = rows.last().map_or(0, |rows| rows.end);
    for (step, source) in data.chunks(stride).take(steps).enumerate() {
        for line in (0..last).step_by(16) {
            prefetch(source, AHEAD * stride + line);
        }
        for (index, rows) in rows.iter().enumerate() {
            let target = &mut tiles[index * size + step * ROWS..][..ROWS];
            match source.get(rows.start..rows.start + ROWS) {
                // The next tile's first rows do no harm in a lower one.
                Some(values) => target.copy_from_slice(values),
                None => target[..rows.len()].copy_from_slice(&source[rows.clone()]),
            }
        }
    }
}

#[inline(always)]
fn pack_steps_of_tiles_body<const FMA: bool>(
    data: &[f32],
    stride: usize,
    rows: &[Range<usize>],
    steps: usize,
    size: usize,
    tiles: &mut [f32],
) {
    match micro::max_rows() {
        12 => steps_of_tiles::<12>(data, stride, rows, steps, size, tiles),
        6 => steps_of_tiles::<6>(data, stride, rows, steps, size, tiles),
        _ => steps_of_tiles::<4>(data, stride, rows, steps, size, tiles),
    }
}

dispatch! {
    fn pack_steps_of_tiles(
        data: &[f32],
        stride: usize,
        rows: &[Range<usize>],
        steps: usize,
        size: usize,
        tiles: &mut [f32],
    ) = pack_steps_of_tiles_body;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles of `ROWS` rows and one lower one, from rows and from the transpose, whatever this CPU's height is.
    fn every_element_finds_its_place<const ROWS: usize>() {
        let heights = [ROWS, ROWS - 1, ROWS];
        let m = heights.iter().sum::<usize>();
        for steps in [1, 7, 8, 29] {
            let size = odd_lines(steps * ROWS);
            let value = |row: usize, step: usize| (row * 100 + step) as f32;
            let rows: Vec<f32> = (0..m * steps).map(|i| value(i / steps, i % steps)).collect();
            let transpose: Vec<f32> = (0..m * steps).map(|i| value(i % m, i / m)).collect();
            let starts: Vec<usize> = (0..heights.len()).map(|tile| heights[..tile].iter().sum()).collect();
            let ranges: Vec<_> = starts.iter().zip(heights).map(|(start, height)| *start..start + height).collect();
            let (mut from_rows, mut from_steps) = (vec![f32::NAN; 3 * size], vec![f32::NAN; 3 * size]);
            for (range, tile) in ranges.iter().zip(from_rows.chunks_exact_mut(size)) {
                rows_of_tile::<ROWS>(&rows[range.start * steps..], steps, range.len(), steps, tile);
            }
            steps_of_tiles::<ROWS>(&transpose, m, &ranges, steps, size, &mut from_steps);
            for (tile, range) in ranges.iter().enumerate() {
                for (place, row) in range.clone().enumerate() {
                    for step in 0..steps {
                        let at = tile * size + step * ROWS + place;
                        assert_eq!((from_rows[at], from_steps[at]), (value(row, step), value(row, step)));
                    }
                }
            }
        }
    }

    #[test]
    fn every_element_finds_its_place_in_tiles_of_every_height() {
        every_element_finds_its_place::<4>();
        every_element_finds_its_place::<6>();
        every_element_finds_its_place::<12>();
    }
}
