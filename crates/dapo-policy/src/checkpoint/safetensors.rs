//! safetensors files, read one tensor at a time.

use crate::check::{Bound, absurd, check_memory, check_values};
use crate::error::PolicyError;
use crate::folder::{Folder, Source, open};
use crate::tokenizer::{aside, read_json_of, refuse_lfs_pointer};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// One open file, its header checked against its length.
pub(super) struct TensorFile {
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
        self.shards[shard].read(name, shape)
    }
}

impl TensorFile {
    pub(super) fn open(file: &Path) -> Result<Self, PolicyError> {
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

    /// A weight in f32, checked against the shape it should have.
    pub(super) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, PolicyError> {
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

fn write_f32(file: &Path, tensors: &BTreeMap<String, Tensor>, bound: Bound) -> Result<(), PolicyError> {
    if let Some((name, tensor)) = tensors.iter().find(|(_, tensor)| tensor.dtype() != DType::F32) {
        return Err(PolicyError::tensor(file, name, format!("of type {:?}", tensor.dtype()), "of type F32"));
    }
    write(file, tensors, bound)
}

/// Writes a file of tensors aside, in an order that follows from their types and names, to the disk, and renames it. A
/// failure, such as a full disk, leaves nothing.
pub(super) fn write(file: &Path, tensors: &BTreeMap<String, Tensor>, bound: Bound) -> Result<(), PolicyError> {
    tensors.iter().try_for_each(|(name, tensor)| check_values(file, name, tensor, bound))?;
    let aside = aside(file);
    let written =
        write_to(&aside, file, tensors).and_then(|()| std::fs::rename(&aside, file).map_err(PolicyError::io(file)));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}

fn write_to(aside: &Path, file: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
    // The library makes files that only their owner may read; this one gets what any new file gets.
    let new = File::create(aside).and_then(|new| new.metadata()).map_err(PolicyError::io(aside))?;
    // More than one entry would be written in a random order.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), aside).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => PolicyError::Io { file: aside.into(), source },
        other => PolicyError::file(file, format!("cannot write the tensors: {other}")),
    })?;
    std::fs::set_permissions(aside, new.permissions()).map_err(PolicyError::io(aside))?;
    File::open(aside).and_then(|written| written.sync_all()).map_err(PolicyError::io(aside))
}
