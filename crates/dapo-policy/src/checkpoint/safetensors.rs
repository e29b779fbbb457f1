//! safetensors files, read one tensor at a time.

use crate::check::{Bound, absurd, check_memory, check_values};
use crate::error::PolicyError;
use crate::folder::{Folder, Source, open};
use crate::tokenizer::{aside, read_json_of, refuse_lfs_pointer};
use candle_core::{DType, Device, Shape, Tensor};
use safetensors::tensor::{self, Dtype, Metadata, TensorInfo};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Elements widened at a time.
const CHUNK: usize = 1 << 20;
/// The longest header, in bytes: the limit of the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// The weights of a folder: one file or several shards.
pub(super) struct Weights {
    dir: PathBuf,
    shards: Vec<TensorFile>,
    /// The shard of each tensor.
    places: BTreeMap<String, usize>,
}

/// An open safetensors file, whose tensors are read one at a time. Its header has been checked against its length.
pub struct TensorFile {
    file: PathBuf,
    handle: Box<dyn Source>,
    /// Where the header ends and the tensors begin, in bytes.
    start: u64,
    metadata: Metadata,
}

impl Weights {
    pub(super) fn open(folder: Folder<'_>) -> Result<Self, PolicyError> {
        const SINGLE: &str = "model.safetensors";
        const INDEX: &str = "model.safetensors.index.json";
        let dir = folder.path();
        let mut weights = Self { dir: dir.into(), shards: vec![], places: BTreeMap::new() };
        let shard = |name: &str| TensorFile::of(&folder.file(name), folder.open(name));
        if folder.has(SINGLE) {
            weights.add(shard(SINGLE)?)?;
            return Ok(weights);
        }
        if !folder.has(INDEX) {
            let message = "neither model.safetensors nor model.safetensors.index.json is there";
            return Err(PolicyError::file(dir, message));
        }
        let (json, index) = (read_json_of(folder, INDEX)?, folder.file(INDEX));
        let map = json.get("weight_map").and_then(|map| map.as_object());
        let map = map.ok_or_else(|| PolicyError::field(&index, "weight_map", "missing", "an object of file names"))?;
        let (mut shards, mut known) = (Vec::new(), BTreeSet::new());
        for (tensor, name) in map {
            let plain = |name: &&str| Path::new(name).file_name() == Some(name.as_ref());
            let name = name.as_str().filter(plain).ok_or_else(|| {
                PolicyError::field(
                    &index,
                    format!("weight_map.{tensor}"),
                    name.to_string(),
                    "the name of a file beside it",
                )
            })?;
            if known.insert(name) {
                shards.push(name);
            }
        }
        for name in shards {
            weights.add(shard(name)?)?;
        }
        for (tensor, name) in map {
            let found = weights.places.get(tensor).map(|shard| &weights.shards[*shard].file);
            let file = dir.join(name.as_str().unwrap_or_default());
            if found != Some(&file) {
                let expected = "present, as model.safetensors.index.json says";
                return Err(PolicyError::tensor(&file, tensor, "missing", expected));
            }
        }
        Ok(weights)
    }

    fn add(&mut self, shard: TensorFile) -> Result<(), PolicyError> {
        for name in shard.names() {
            if let Some(other) = self.places.insert(name.clone(), self.shards.len()) {
                let found = format!("also in {}", self.shards[other].file.display());
                return Err(PolicyError::tensor(&shard.file, name, found, "in one shard only"));
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The file a tensor is in, or the folder where it is in none.
    pub(super) fn file_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(&self.dir, |shard| &self.shards[*shard].file)
    }

    /// A tensor in f32, checked against the shape it should have.
    pub(super) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, PolicyError> {
        let missing = || PolicyError::tensor(&self.dir, name, "missing", format!("of shape {shape:?}"));
        let shard = *self.places.get(name).ok_or_else(missing)?;
        self.shards[shard].weight(name, shape)
    }
}

impl fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorFile").field("file", &self.file).field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// Names the file: when it is not there, cut short or damaged.
    pub fn open(file: &Path) -> Result<Self, PolicyError> {
        Self::of(file, open(file))
    }

    fn of(file: &Path, opened: io::Result<(Box<dyn Source>, u64)>) -> Result<Self, PolicyError> {
        let (mut handle, length) = opened.map_err(PolicyError::io(file))?;
        let damaged = |what: &str| PolicyError::file(file, format!("not a whole safetensors file: {what}"));
        let mut prefix = [0; 8];
        handle.read_exact(&mut prefix).map_err(|_| damaged("shorter than 8 bytes"))?;
        refuse_lfs_pointer(file, &prefix)?;
        let start = u64::from_le_bytes(prefix).saturating_add(8);
        if start > length {
            return Err(damaged(&format!("its header should end at byte {start} of {length}")));
        }
        if start - 8 > LONGEST_HEADER {
            return Err(damaged(&format!("its header has {} bytes, expected at most {LONGEST_HEADER}", start - 8)));
        }
        let mut header = vec![0; (start - 8) as usize];
        handle.read_exact(&mut header).map_err(PolicyError::io(file))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
        let expected = start + metadata.data_len() as u64;
        if expected != length {
            return Err(damaged(&format!("its header describes {expected} bytes, it has {length}")));
        }
        Ok(Self { file: file.into(), handle, start, metadata })
    }

    /// The tensors' names, in the order of the file.
    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Checks that it has these tensors, of these shapes, and no others.
    ///
    /// # Errors
    /// Names the file and the tensor that is missing, of another shape, or not listed.
    pub fn expect(&self, listed: &[(String, Shape)]) -> Result<(), PolicyError> {
        let wrong =
            |name: &str, found: String, expected: String| Err(PolicyError::tensor(&self.file, name, found, expected));
        for (name, shape) in listed {
            let found = self.metadata.info(name).map(|info| &info.shape[..]);
            if found != Some(shape.dims()) {
                let found = found.map_or("missing".into(), |found| format!("of shape {found:?}"));
                return wrong(name, found, format!("of shape {:?}", shape.dims()));
            }
        }
        let known: BTreeSet<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        let other = self.names().into_iter().find(|name| !known.contains(name.as_str()));
        other.map_or(Ok(()), |name| wrong(&name, "present".into(), "absent: the model has no such tensor".into()))
    }

    /// A tensor in f32 on the CPU (f16 and bf16 are widened).
    ///
    /// # Errors
    /// Names the file and the tensor: when it is missing, of another shape or type, or has a value that is not finite.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, PolicyError> {
        self.read_within(name, shape, Bound::Finite)
    }

    /// As [`tensor`](Self::tensor), of a weight: a value above [`LARGEST_WEIGHT`](crate::LARGEST_WEIGHT) in size is an
    /// error, too.
    ///
    /// # Errors
    /// As there.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, PolicyError> {
        self.read_within(name, shape, Bound::Weight)
    }

    fn read_within(&mut self, name: &str, shape: &[usize], bound: Bound) -> Result<Tensor, PolicyError> {
        let Self { file, handle, start, metadata } = self;
        let wrong = |found: String, expected: &str| PolicyError::tensor(file, name, found, expected);
        let info = metadata.info(name).ok_or_else(|| wrong("missing".into(), "present"))?;
        let TensorInfo { dtype, shape: found, data_offsets: (from, _) } = info;
        if found != shape {
            return Err(wrong(format!("of shape {found:?}"), &format!("of shape {shape:?}")));
        }
        let (dtype, width) = match dtype {
            Dtype::F32 => (DType::F32, 4),
            Dtype::F16 => (DType::F16, 2),
            Dtype::BF16 => (DType::BF16, 2),
            other => return Err(wrong(format!("of type {other}"), "of type F32, F16 or BF16")),
        };
        check_memory(file, std::iter::once(shape))?;
        handle.seek(SeekFrom::Start(*start + *from as u64)).map_err(PolicyError::io(file))?;
        let elements = shape.iter().product();
        let mut values: Vec<f32> = Vec::with_capacity(elements);
        let mut bytes = vec![0; elements.min(CHUNK) * width];
        while values.len() < elements {
            let count = CHUNK.min(elements - values.len());
            let bytes = &mut bytes[..count * width];
            handle.read_exact(bytes).map_err(PolicyError::io(file))?;
            let chunk = Tensor::from_raw_buffer(bytes, dtype, &[count], &Device::Cpu)?;
            let chunk = chunk.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            if let Some(at) = bound.first_beyond(&chunk) {
                return Err(absurd(file, name, chunk[at], values.len() + at));
            }
            values.extend(chunk);
        }
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

/// Reads every tensor of a safetensors file, in f32 on the CPU (f16 and bf16 are widened).
///
/// # Errors
/// Names the file: when it is not there, cut short or damaged, or holds a tensor of another type or a value that is not
/// finite.
pub fn read_tensors(file: &Path) -> Result<BTreeMap<String, Tensor>, PolicyError> {
    read_all(file, Bound::Finite)
}

/// As [`read_tensors`], for weights: a value above [`LARGEST_WEIGHT`](crate::LARGEST_WEIGHT) in size is an error, too.
///
/// # Errors
/// As there.
pub fn read_weights(file: &Path) -> Result<BTreeMap<String, Tensor>, PolicyError> {
    read_all(file, Bound::Weight)
}

fn read_all(file: &Path, bound: Bound) -> Result<BTreeMap<String, Tensor>, PolicyError> {
    let mut source = TensorFile::open(file)?;
    let mut tensors = BTreeMap::new();
    for name in source.names() {
        let shape = source.metadata.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
        let tensor = source.read_within(&name, &shape, bound)?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// Writes f32 tensors to a safetensors file, aside and then renamed, so that it is never seen half written. Equal
/// tensors give equal bytes, and [`read_tensors`] gives them back bit for bit.
///
/// # Errors
/// When a tensor is not f32 or has a value that is not finite, or the file cannot be written.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use dapo_policy::{read_tensors, write_tensors};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("moments.safetensors");
/// let moments = Tensor::new(&[0.5f32, -2.0], &Device::Cpu)?;
/// write_tensors(&file, &[("m".to_owned(), moments)].into())?;
/// assert_eq!(read_tensors(&file)?["m"].to_vec1::<f32>()?, [0.5, -2.0]);
/// # Ok(())
/// # }
/// ```
pub fn write_tensors(file: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
    write_f32(file, tensors, Bound::Finite)
}

/// As [`write_tensors`], for weights: a value above [`LARGEST_WEIGHT`](crate::LARGEST_WEIGHT) in size is an error, too.
///
/// # Errors
/// As there.
pub fn write_weights(file: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
    write_f32(file, tensors, Bound::Weight)
}

/// As [`write_tensors`], of f32 tensors that are made one at a time. `tensor` is given the place of each among the names
/// and shapes, in the order of the file.
///
/// # Errors
/// What `tensor` returns; else as [`write_tensors`]. After a failure the file is as it was before.
///
/// ```
/// use candle_core::{Device, Shape, Tensor};
/// use dapo_policy::{PolicyError, TensorFile, write_tensors_with};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("moments.safetensors");
/// let shapes = [("m".to_owned(), Shape::from(2)), ("v".to_owned(), Shape::from(2))];
/// let tensor = |place: usize| Ok::<_, PolicyError>(Tensor::new(&[place as f32, 0.5], &Device::Cpu)?);
/// write_tensors_with(&file, &shapes, tensor)?;
/// assert_eq!(TensorFile::open(&file)?.tensor("v", &[2])?.to_vec1::<f32>()?, [1.0, 0.5]);
/// # Ok(())
/// # }
/// ```
pub fn write_tensors_with<E: From<PolicyError>>(
    file: &Path,
    shapes: &[(String, Shape)],
    tensor: impl Fn(usize) -> Result<Tensor, E>,
) -> Result<(), E> {
    write_with(file, shapes, DType::F32, Bound::Finite, &tensor)
}

/// As [`write_tensors_with`], for weights: a value above [`LARGEST_WEIGHT`](crate::LARGEST_WEIGHT) in size is an error,
/// too.
///
/// # Errors
/// As there.
pub fn write_weights_with<E: From<PolicyError>>(
    file: &Path,
    shapes: &[(String, Shape)],
    tensor: impl Fn(usize) -> Result<Tensor, E>,
) -> Result<(), E> {
    write_with(file, shapes, DType::F32, Bound::Weight, &tensor)
}

/// The same with tensors of any one type.
pub(super) fn write_with<E: From<PolicyError>>(
    file: &Path,
    shapes: &[(String, Shape)],
    dtype: DType,
    bound: Bound,
    tensor: &dyn Fn(usize) -> Result<Tensor, E>,
) -> Result<(), E> {
    let listed = shapes.iter().map(|(name, shape)| Listed { name, dtype, shape: shape.dims() });
    write_listed(file, &listed.collect::<Vec<_>>(), bound, tensor)
}

fn write_f32(file: &Path, tensors: &BTreeMap<String, Tensor>, bound: Bound) -> Result<(), PolicyError> {
    if let Some((name, tensor)) = tensors.iter().find(|(_, tensor)| tensor.dtype() != DType::F32) {
        return Err(PolicyError::tensor(file, name, format!("of type {:?}", tensor.dtype()), "of type F32"));
    }
    write(file, tensors, bound)
}

/// Writes tensors of any types.
pub(super) fn write(file: &Path, tensors: &BTreeMap<String, Tensor>, bound: Bound) -> Result<(), PolicyError> {
    let listed = tensors.iter().map(|(name, tensor)| Listed { name, dtype: tensor.dtype(), shape: tensor.dims() });
    let tensors: Vec<&Tensor> = tensors.values().collect();
    write_listed(file, &listed.collect::<Vec<_>>(), bound, &|place| Ok(tensors[place].clone()))
}

/// What a file's header says of a tensor.
struct Listed<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [usize],
}

/// A tensor that is made when the library asks for its bytes.
struct Made<'a, E> {
    file: &'a Path,
    place: usize,
    listed: &'a Listed<'a>,
    bound: Bound,
    tensor: &'a dyn Fn(usize) -> Result<Tensor, E>,
    /// The first error: the library has no place for one.
    failed: &'a RefCell<Option<E>>,
}

impl<E: From<PolicyError>> Made<'_, E> {
    fn bytes(&self) -> Result<Vec<u8>, E> {
        let Self { file, place, bound, listed: &Listed { name, dtype, shape }, .. } = *self;
        let tensor = (self.tensor)(place)?;
        if (tensor.dtype(), tensor.dims()) != (dtype, shape) {
            let found = format!("{:?} of shape {:?}", tensor.dtype(), tensor.dims());
            return Err(PolicyError::tensor(file, name, found, format!("{dtype:?} of shape {shape:?}")).into());
        }
        check_values(file, name, &tensor, bound)?;
        Ok(tensor::View::data(&tensor).into_owned())
    }
}

impl<E: From<PolicyError>> tensor::View for Made<'_, E> {
    fn dtype(&self) -> Dtype {
        self.listed.dtype.into()
    }

    fn shape(&self) -> &[usize] {
        self.listed.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut failed = self.failed.borrow_mut();
        if failed.is_none() {
            match self.bytes() {
                Ok(bytes) => return bytes.into(),
                Err(error) => *failed = Some(error),
            }
        }
        Cow::Borrowed(&[])
    }

    fn data_len(&self) -> usize {
        self.listed.shape.iter().product::<usize>() * self.listed.dtype.size_in_bytes()
    }
}

/// Writes a file of tensors aside, in an order that follows from their types and names, to the disk, and renames it. A
/// failure, such as a full disk, leaves nothing.
fn write_listed<E: From<PolicyError>>(
    file: &Path,
    listed: &[Listed<'_>],
    bound: Bound,
    tensor: &dyn Fn(usize) -> Result<Tensor, E>,
) -> Result<(), E> {
    let (aside, failed) = (aside(file), RefCell::new(None));
    let made = |(place, listed)| Made { file, place, listed, bound, tensor, failed: &failed };
    let written = write_to(&aside, file, listed.iter().enumerate().map(made));
    let written = failed.take().map_or(written.map_err(E::from), Err);
    let written =
        written.and_then(|()| std::fs::rename(&aside, file).map_err(|error| PolicyError::io(file)(error).into()));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}

fn write_to<'a, E: From<PolicyError> + 'a>(
    aside: &Path,
    file: &Path,
    tensors: impl Iterator<Item = Made<'a, E>>,
) -> Result<(), PolicyError> {
    // The library makes files that only their owner may read; this one gets what any new file gets.
    let new = File::create(aside).and_then(|new| new.metadata()).map_err(PolicyError::io(aside))?;
    // More than one entry would be written in a random order.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = tensors.map(|made| (made.listed.name, made));
    safetensors::serialize_to_file(tensors, Some(metadata), aside).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => PolicyError::Io { file: aside.into(), source },
        other => PolicyError::file(file, format!("cannot write the tensors: {other}")),
    })?;
    std::fs::set_permissions(aside, new.permissions()).map_err(PolicyError::io(aside))?;
    File::open(aside).and_then(|written| written.sync_all()).map_err(PolicyError::io(aside))
}
