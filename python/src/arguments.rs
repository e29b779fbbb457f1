//! Arguments as Python has them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple};

/// A text; surrogates without their partner become U+FFFD.
pub(crate) struct Text(pub(crate) String);

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(object.cast::<PyString>()?.to_string_lossy().into_owned()))
    }
}

/// Accepted answers, at least one: a text, a number, or a list of them. `NumPy`'s scalars and arrays count as what their
/// `tolist` gives.
pub(crate) struct Golds(pub(crate) Vec<String>);

impl<'py> FromPyObject<'_, 'py> for Golds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let mut golds = Vec::new();
        collect(&object, &mut golds, 0)?;
        if golds.is_empty() {
            return Err(PyValueError::new_err("gold is an empty list, expected at least one answer"));
        }
        Ok(Self(golds))
    }
}

/// Lists may hold scalars that are lists of their own to `NumPy`, and nothing deeper.
const MAX_DEPTH: usize = 3;

fn collect(object: &Bound<'_, PyAny>, golds: &mut Vec<String>, depth: usize) -> PyResult<()> {
    if let Ok(text) = object.cast::<PyString>() {
        golds.push(text.to_string_lossy().into_owned());
        return Ok(());
    }
    if object.is_instance_of::<PyFloat>() && !object.extract::<f64>()?.is_finite() {
        return Err(PyValueError::new_err(format!("gold is {object}, expected a finite number")));
    }
    let is_number = object.is_instance_of::<PyInt>() || object.is_instance_of::<PyFloat>();
    if is_number && !object.is_instance_of::<PyBool>() {
        golds.push(object.str()?.to_string_lossy().into_owned());
        return Ok(());
    }
    if depth < MAX_DEPTH {
        if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
            return object.try_iter()?.try_for_each(|item| collect(&item?, golds, depth + 1));
        }
        if let Some(plain) = object.getattr_opt("tolist")? {
            return collect(&plain.call0()?, golds, depth + 1);
        }
    }
    let kind = object.get_type().name()?;
    Err(PyTypeError::new_err(format!("gold is of type {kind}, expected a text, a number or a list of them")))
}
