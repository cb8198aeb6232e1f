//! The safetensors format, <https://huggingface.co/docs/safetensors>: little-endian arrays in C order.

use super::{
    Error,
    array::{ArrayFile, Elements},
    element::{Element, Layout},
    tensor::Purpose,
};
use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::{fs::File, io::Read};

/// The longest header that is read, as in the format's own implementation.
const MAX_HEADER: u64 = 100_000_000;

/// Opens one tensor of a file: the one of that name, or the only one. No other part of the file is read.
///
/// # Errors
///
/// [`Error::Format`] for anything but a safetensors file, [`Error::NoName`], [`Error::UnknownName`], what
/// [`Purpose::check`] refuses, and what [`Layout::bytes`] does.
pub fn open(mut file: File, path: &str, name: Option<&str>, purpose: Purpose) -> Result<ArrayFile, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let malformed = |found: String| Error::Format { path: path.to_owned(), expected: "a safetensors file", found };

    let length = file.metadata().map_err(failed)?.len();
    let mut start = [0; 8];
    if length < start.len() as u64 {
        return Err(malformed(format!("{length} bytes")));
    }
    file.read_exact(&mut start).map_err(failed)?;
    let header_length = u64::from_le_bytes(start);
    let after_start = length - start.len() as u64;
    if header_length > after_start.min(MAX_HEADER) {
        return Err(malformed(format!("a header of {header_length} bytes in a file of {length}")));
    }
    let mut header = Vec::new();
    (&mut file).take(header_length).read_to_end(&mut header).map_err(failed)?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| malformed(format!("a damaged header ({error})")))?;

    let (name, info) = find(&metadata, path, name)?;
    let path = format!("{path}:{name}");
    let element = purpose.check(&path, element(info.dtype), &info.shape)?;
    let (offset, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
    let available = (after_start - header_length).min(end).saturating_sub(offset);
    let position = start.len() as u64 + header_length + offset;
    let layout = Layout { element, big_endian: false, shape: info.shape.clone() };
    layout.bytes(Some(available), &path)?;
    Ok(ArrayFile { path, layout, elements: Elements::Stored { file, start: position } })
}

/// The tensor of that name, or the only one.
fn find<'a>(metadata: &'a Metadata, path: &str, name: Option<&str>) -> Result<(String, &'a TensorInfo), Error> {
    let held = metadata.offset_keys();
    let name = match (name, &held[..]) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => return Err(Error::NoName { path: path.to_owned(), held }),
    };
    match metadata.info(name) {
        Some(info) => Ok((name.to_owned(), info)),
        None => Err(Error::UnknownName { path: path.to_owned(), name: name.to_owned(), held }),
    }
}

/// The element type, or the name of one that is not read.
fn element(dtype: Dtype) -> Result<Element, String> {
    Ok(match dtype {
        Dtype::BOOL => Element::Bool,
        Dtype::I8 => Element::I8,
        Dtype::I16 => Element::I16,
        Dtype::I32 => Element::I32,
        Dtype::I64 => Element::I64,
        Dtype::U8 => Element::U8,
        Dtype::U16 => Element::U16,
        Dtype::U32 => Element::U32,
        Dtype::U64 => Element::U64,
        Dtype::F16 => Element::F16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        Dtype::BF16 => return Err("bfloat16".to_owned()),
        other => return Err(other.to_string()),
    })
}
