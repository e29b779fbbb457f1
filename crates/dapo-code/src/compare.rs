//! When two outputs are the same.

/// Whether a program's output is the expected one up to blanks.
///
/// Both are split into lines, and the lines into words at white space; the words must be equal, line by line. Blanks at
/// the ends of lines, their number between words, and empty lines at the end do not count. Empty lines elsewhere do.
///
/// # Example
/// ```
/// use dapo_code::same_output;
///
/// assert!(same_output("1  2 \n3\n\n", "1 2\r\n3"));
/// assert!(!same_output("1 2 3", "1 2\n3"));
/// assert!(!same_output("1.0", "1"));
/// ```
pub fn same_output(output: &str, expected: &str) -> bool {
    let (mut output, mut expected) = (output.trim_end().lines(), expected.trim_end().lines());
    loop {
        match (output.next(), expected.next()) {
            (None, None) => return true,
            (Some(output), Some(expected)) if output.split_whitespace().eq(expected.split_whitespace()) => {}
            _ => return false,
        }
    }
}
