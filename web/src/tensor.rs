//! Logits from a file.

use std::rc::Rc;

use seghead::{Error, Input, Logits};
use wasm_bindgen::prelude::*;

/// One image of logits on the host.
#[wasm_bindgen]
pub struct Tensor {
    pub(crate) inner: Rc<Elements>,
}

/// The elements as they were in the file.
pub struct Elements {
    pub shape: Logits,
    data: Data,
}

enum Data {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

#[wasm_bindgen]
impl Tensor {
    /// From little-endian elements, f32 or halves, of `classes × height × width`, or with the classes last.
    #[wasm_bindgen(constructor)]
    pub fn new(
        bytes: &[u8],
        halves: bool,
        classes: u32,
        height: u32,
        width: u32,
        classes_last: bool,
    ) -> Result<Self, JsError> {
        let shape = match classes_last {
            true => Logits::hwc(height, width, classes),
            false => Logits::chw(classes, height, width),
        }?;
        let data = match halves {
            true => Data::F16(bytemuck::pod_collect_to_vec(bytes)),
            false => Data::F32(bytemuck::pod_collect_to_vec(bytes)),
        };
        let found = match &data {
            Data::F32(values) => values.len(),
            Data::F16(halves) => halves.len(),
        };
        let (expected, found) = (shape.len().into(), found as u64);
        if found != expected {
            return Err(Error::Length { what: "logits", expected, found }.into());
        }
        Ok(Self { inner: Rc::new(Elements { shape, data }) })
    }
}

impl Elements {
    pub fn input(&self) -> Input<'_> {
        match &self.data {
            Data::F32(values) => values.into(),
            Data::F16(halves) => Input::f16(halves),
        }
    }

    /// The elements as f32, C × H × W.
    pub fn planes(&self) -> Vec<f32> {
        let at = |i: usize| match &self.data {
            Data::F32(values) => values[i],
            Data::F16(halves) => widened(halves[i]),
        };
        let strides = (self.shape.plane_stride(), self.shape.pixel_stride());
        let plane = |class| (0..self.shape.pixels()).map(move |pixel| class * strides.0 + pixel * strides.1);
        (0..self.shape.classes()).flat_map(plane).map(|i| at(i as usize)).collect()
    }
}

/// A half as f32, exactly: its exponent is moved by a multiplication, which takes subnormals along.
fn widened(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    let magnitude = match half & 0x7c00 {
        0x7c00 => f32::from_bits(rest | 0x7f80_0000),
        _ => f32::from_bits(rest) * f32::from_bits(0x7780_0000), // 2¹¹²
    };
    f32::from_bits(magnitude.to_bits() | sign)
}
