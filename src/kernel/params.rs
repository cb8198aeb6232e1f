use crate::Logits;
use crate::bands::Halves;

/// The parameters of a kernel, `Params` in `shaders/prelude/common.wgsl`. A kernel reads those that it needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    // `grid`, `place`, `out_place`, `map` and `plane_strides` in the shader.
    pub grid_width: u32,
    pub groups: u32,
    pub row_groups: u32,
    pub first_image: u32,
    pub image_stride: u32,
    pub row_stride: u32,
    pub pixel_stride: u32,
    pub offset: u32,
    pub out_image_stride: u32,
    pub out_row_stride: u32,
    pub out_pixel_stride: u32,
    pub out_offset: u32,
    pub map_groups: u32,
    pub map_offset: u32,
    pub plane_stride: u32,
    pub out_plane_stride: u32,
    pub classes: u32,
    pub row_pixels: u32,
    pub elements: u32,
    pub rows: u32,
    pub pixels: u32,
    pub first_pixel: u32,
    pub partials: u32,
    pub reduction: u32,
    pub ignore_index: u32,
    pub has_ignore_index: u32,
    pub label_smoothing: f32,
    pub nan: f32,
    pub infinity: f32,
    pub in_height: u32,
    pub in_width: u32,
    pub in_row: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub out_row: u32,
    pub y_numerator: u32,
    pub y_offset: i32,
    pub y_denominator: u32,
    pub x_numerator: u32,
    pub x_offset: i32,
    pub x_denominator: u32,
    pub top_k: u32,
    pub first_map: u32,
    pub maps: u32,
    pub lanes: u32,
    pub record_word: u32,
    pub tolerance: f32,
    pub chosen_class: u32,
    pub threshold: f32,
    pub outline: u32,
    pub has_photo: u32,
    pub past_weight: f32,
    pub first_region: u32,
    pub region_stride: u32,
    pub region_classes: u32,
    pub smoothing: f32,
    pub hits: f32,
    pub of_hits: f32,
    pub of_predicted: f32,
    pub of_truth: f32,
    pub gamma: f32,
    pub alpha: f32,
    pub weight: f32,
    pub reach: u32,
    pub first_row: u32,
    pub own_row: u32,
    pub near_classes: u32,
    pub far_element: u32,
    pub far_out_element: u32,
    pub zero: u32,
    pub unused: [u32; 2],
}

impl Params {
    /// For the pixels of `logits`, each with its classes.
    pub fn new(logits: &Logits) -> Self {
        let rows = if logits.is_flat() { (1, logits.pixels()) } else { (logits.height(), logits.width()) };
        Self {
            classes: logits.classes(),
            plane_stride: logits.plane_stride(),
            pixel_stride: logits.pixel_stride(),
            row_stride: logits.row_stride(),
            image_stride: logits.image_stride(),
            offset: logits.offset(),
            elements: logits.len(),
            pixels: logits.pixels(),
            nan: f32::NAN,
            infinity: f32::INFINITY,
            ..Self::default()
        }
        .with_rows(rows)
    }

    /// With a tensor that is written where `output` says, of the same size.
    pub fn with_output(self, output: &Logits) -> Self {
        // Rows that follow one another are a single one only if they do so on both sides.
        let of_rows = if output.is_flat() { self } else { self.with_rows((output.height(), output.width())) };
        Self {
            out_plane_stride: output.plane_stride(),
            out_pixel_stride: output.pixel_stride(),
            out_row_stride: output.row_stride(),
            out_image_stride: output.image_stride(),
            out_offset: output.offset(),
            ..of_rows
        }
    }

    /// With an image that is read from two bindings.
    pub fn with_halves(self, halves: Option<&Halves>) -> Self {
        let Some(halves) = halves else { return self };
        Self { near_classes: halves.near.1.classes(), far_element: halves.far_element(), ..self }
    }

    /// The same of one that is written.
    pub fn with_output_halves(self, halves: Option<&Halves>) -> Self {
        let Some(halves) = halves else { return self };
        Self { near_classes: halves.near.1.classes(), far_out_element: halves.far_element(), ..self }
    }

    /// With images of that many rows of that many pixels.
    pub fn with_rows(self, (rows, row_pixels): (u32, u32)) -> Self {
        let row_groups = row_pixels.div_ceil(4);
        let groups = rows * row_groups;
        Self { row_pixels, row_groups, groups, map_groups: groups, ..self }
    }

    /// Whether every group that is read starts at a multiple of four elements.
    pub fn reads_in_fours(&self) -> bool {
        let strides = [self.plane_stride, self.row_stride, self.image_stride, self.offset];
        self.in_fours(self.pixel_stride, strides)
    }

    /// Whether every row of what is resized starts and ends at a multiple of four elements.
    pub fn has_rows_in_fours(&self) -> bool {
        let strides = [self.plane_stride, self.row_stride, self.image_stride, self.offset, self.in_width];
        self.pixel_stride == 1 && strides.into_iter().all(|stride| stride.is_multiple_of(4))
    }

    /// The same of a tensor that is written; where it is a part of something, no group may reach beyond its row.
    pub fn writes_in_fours(&self, cropped: bool) -> bool {
        let strides = [self.out_plane_stride, self.out_row_stride, self.out_image_stride, self.out_offset];
        self.in_fours(self.out_pixel_stride, strides) && (self.row_pixels.is_multiple_of(4) || !cropped)
    }

    fn in_fours(&self, pixel_stride: u32, [plane, row, image, offset]: [u32; 4]) -> bool {
        let row = if self.groups == self.row_groups { 0 } else { row };
        pixel_stride == 1 && [plane, row, image, offset].into_iter().all(|stride| stride.is_multiple_of(4))
    }
}
