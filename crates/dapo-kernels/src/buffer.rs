//! Buffers that are used again and again, for batches of different sizes.
//!
//! A vector that grows doubles its memory and copies what it holds. Here neither is wanted: what a buffer held does not
//! matter, and the activations of a batch may take gigabytes.

/// A buffer of `len` elements; what they hold does not matter.
pub fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    replace_if_short(buffer, len);
    buffer.resize(len, 0.0);
    buffer
}

/// A buffer without elements, with room for `len`.
pub fn emptied(buffer: &mut Vec<f32>, len: usize) -> &mut Vec<f32> {
    replace_if_short(buffer, len);
    buffer.clear();
    buffer
}

/// The first `len` elements of a small buffer that may grow with every use and never shrinks; what they hold does not
/// matter.
pub(crate) fn at_least(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(buffer.len().max(len), 0.0);
    &mut buffer[..len]
}

/// The old memory is given up before there is new one.
fn replace_if_short(buffer: &mut Vec<f32>, len: usize) {
    if buffer.capacity() < len {
        *buffer = Vec::new();
        buffer.reserve_exact(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_no_more_memory_than_its_largest_use() {
        let mut buffer = Vec::new();
        for (len, most) in [(1000, 1000), (900, 1000), (1001, 1001), (0, 1001), (1100, 1100)] {
            assert_eq!(sized(&mut buffer, len).len(), len);
            assert_eq!(buffer.capacity(), most);
        }
        let room = emptied(&mut buffer, 1101);
        assert_eq!((room.len(), room.capacity()), (0, 1101));
        assert_eq!(at_least(&mut buffer, 7).len(), 7);
        at_least(&mut buffer, 1200)[1199] = 1.0;
        assert_eq!((at_least(&mut buffer, 3).len(), buffer.len()), (3, 1200));
    }
}
