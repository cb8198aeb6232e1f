//! Every kernel in every specialisation is valid WGSL, and the parameters lie where the shaders look for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::mem::offset_of;

use super::*;
use crate::ElementType;

/// Class counts on both sides of every choice that depends on them.
const CLASSES: [u32; 5] = [1, 2, 3, UNROLLED_CLASSES, UNROLLED_CLASSES + 1];

fn validate(source: &str) -> Result<naga::Module, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let capabilities = naga::valid::Capabilities::SHADER_INT64 | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|error| error.emit_to_string(source))?;
    Ok(module)
}

#[test]
fn every_specialisation_is_valid() {
    let mut seen = 0;
    for kernel in KERNELS {
        let mut of_kernel = HashSet::new();
        for classes in CLASSES {
            for specialisation in (kernel.specialisations)(classes) {
                if !of_kernel.insert(specialisation) {
                    continue;
                }
                let module = validate(&specialisation.source(kernel))
                    .unwrap_or_else(|error| panic!("{} {specialisation:?}: {error}", kernel.name));
                assert!(module.entry_points.iter().any(|entry| entry.name == kernel.entry), "{}", kernel.name);
            }
        }
        assert!(!of_kernel.is_empty(), "{} has no specialisation", kernel.name);
        seen += of_kernel.len();
    }
    assert!(seen > 300, "{seen} specialisations");
}

#[test]
fn kernels_have_names_of_their_own() {
    let names: HashSet<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
    assert_eq!(names.len(), KERNELS.len());
}

#[test]
fn a_specialisation_changes_the_source() {
    // Two that differ must differ in what is compiled: the pipelines are cached under the specialisation.
    for kernel in KERNELS {
        for classes in CLASSES {
            let all = (kernel.specialisations)(classes);
            let sources: HashSet<_> = all.iter().map(|specialisation| specialisation.source(kernel)).collect();
            assert_eq!(sources.len(), all.len(), "{} with {classes} classes", kernel.name);
        }
    }
}

#[test]
fn a_specialisation_has_a_name_of_its_own() {
    // Of all class counts together, as they are in a cache of pipelines.
    for kernel in KERNELS {
        let all: HashSet<_> = CLASSES.into_iter().flat_map(kernel.specialisations).collect();
        let names: HashSet<_> = SpecialisedKernel::of(all.iter().map(|one| (*kernel, *one))).into_iter().collect();
        assert_eq!(names.len(), all.len(), "{}", kernel.name);
    }
    let argmax = Specialisation::new(Access::Words64, ElementType::F16, 5);
    let argmax = Specialisation { scores: Scores { margin: true, ..Scores::NONE }, ..argmax };
    let name = &SpecialisedKernel::of([(&ops::argmax::ARGMAX, argmax)])[0];
    assert_eq!(name.to_string(), "argmax (words64, f16, u8, 5 classes, margin)");
    let finish = (&ops::loss::FINISH, (ops::loss::FINISH.specialisations)(5)[0]);
    assert_eq!(SpecialisedKernel::of([finish])[0].to_string(), "loss finish");
}

#[test]
fn threads_share_a_pipeline() {
    use std::sync::Barrier;

    let gpu = crate::Gpu::headless_blocking(&crate::GpuOptions::default()).unwrap();
    let key = (&ops::sigmoid::SIGMOID, Specialisation::new(Access::Vec4, ElementType::F32, 0));
    let barrier = Barrier::new(4);
    let compile = || {
        barrier.wait();
        gpu.pipeline(key).pipeline
    };
    let pipelines: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(compile)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(pipelines.windows(2).all(|pair| pair[0] == pair[1]), "compiled more than once");
}

#[test]
fn every_shader_file_is_in_a_kernel() {
    let mut files = 0;
    let sources: Vec<String> = KERNELS
        .iter()
        .flat_map(|kernel| {
            (kernel.specialisations)(3).into_iter().chain((kernel.specialisations)(30)).map(|s| s.source(kernel))
        })
        .collect();
    for folder in ["shaders", "shaders/prelude"] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wgsl") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(sources.iter().any(|source| source.contains(&text)), "{} is unused", path.display());
                files += 1;
            }
        }
    }
    assert!(files >= 5, "{files} shader files");
}

#[test]
fn workgroups_share_what_is_required() {
    let shared = |kernel: &&Kernel| {
        let specialisations = (kernel.specialisations)(3).into_iter().chain((kernel.specialisations)(30));
        let of_module = |module: naga::Module| -> u32 {
            let variables = module.global_variables.iter().map(|(_, variable)| variable);
            let shared = variables.filter(|variable| variable.space == naga::AddressSpace::WorkGroup);
            shared.map(|variable| module.types[variable.ty].inner.size(module.to_ctx())).sum()
        };
        specialisations.map(|one| of_module(validate(&one.source(kernel)).unwrap())).max().unwrap_or(0)
    };
    let most = KERNELS.iter().map(shared).max();
    assert_eq!(most, Some(crate::Gpu::required_limits().max_compute_workgroup_storage_size));
}

#[test]
fn params_lie_where_the_shaders_look() {
    let module =
        validate(&Specialisation::new(Access::Vec4, ElementType::F32, 0).source(&ops::sigmoid::SIGMOID)).unwrap();
    let (members, span) = module
        .types
        .iter()
        .find_map(|(_, ty)| match (&ty.inner, ty.name.as_deref()) {
            (naga::TypeInner::Struct { members, span }, Some("Params")) => Some((members.clone(), *span)),
            _ => None,
        })
        .unwrap();
    macro_rules! fields {
        ($($name:ident),* $(,)?) => { vec![$((stringify!($name), offset_of!(Params, $name))),*] };
    }
    let vectors = [
        ("grid", [offset_of!(Params, grid_width), offset_of!(Params, first_image)]),
        ("place", [offset_of!(Params, image_stride), offset_of!(Params, offset)]),
        ("out_place", [offset_of!(Params, out_image_stride), offset_of!(Params, out_offset)]),
        ("map", [offset_of!(Params, map_groups), offset_of!(Params, map_offset)]),
        ("plane_strides", [offset_of!(Params, plane_stride), offset_of!(Params, out_plane_stride)]),
    ];
    let scalars = fields![
        classes,
        row_pixels,
        elements,
        rows,
        pixels,
        first_pixel,
        partials,
        reduction,
        ignore_index,
        has_ignore_index,
        label_smoothing,
        nan,
        infinity,
        in_height,
        in_width,
        in_row,
        out_height,
        out_width,
        out_row,
        y_numerator,
        y_offset,
        y_denominator,
        x_numerator,
        x_offset,
        x_denominator,
        top_k,
        first_map,
        maps,
        lanes,
        record_word,
        tolerance,
        chosen_class,
        threshold,
        outline,
        has_photo,
        past_weight,
        first_region,
        region_stride,
        region_classes,
        smoothing,
        hits,
        of_hits,
        of_predicted,
        of_truth,
        gamma,
        alpha,
        weight,
        reach,
        first_row,
        own_row,
        near_classes,
        far_element,
        far_out_element,
        zero,
    ];
    // A vector is as many fields, one after another.
    for ((name, [first, last]), size) in vectors.into_iter().zip([4, 4, 4, 2, 2]) {
        assert_eq!(last - first, 4 * (size - 1), "{name}");
    }
    let fields: Vec<_> = vectors.map(|(name, [first, _])| (name, first)).into_iter().chain(scalars).collect();
    let wgsl: Vec<_> = members.iter().map(|member| (member.name.as_deref().unwrap(), member.offset as usize)).collect();
    assert_eq!(wgsl, fields);
    assert_eq!(span as usize, size_of::<Params>());
}

#[test]
fn the_loss_record_lies_where_the_shader_writes_it() {
    use crate::LossRecord;
    let module = validate(&Specialisation::new(Access::Vec4, ElementType::F32, 0).source(&ops::loss::FINISH)).unwrap();
    let offsets: Vec<_> = module
        .types
        .iter()
        .find_map(|(_, ty)| match (&ty.inner, ty.name.as_deref()) {
            (naga::TypeInner::Struct { members, .. }, Some("Partial")) => {
                Some(members.iter().map(|member| (member.name.clone().unwrap(), member.offset as usize)).collect())
            }
            _ => None,
        })
        .unwrap();
    let expected = [
        ("loss", offset_of!(LossRecord, loss)),
        ("weight", offset_of!(LossRecord, weight)),
        ("valid", offset_of!(LossRecord, valid)),
        ("first_invalid", offset_of!(LossRecord, first_invalid)),
    ];
    assert_eq!(offsets, expected.map(|(name, offset)| (name.to_owned(), offset)));
}

#[test]
fn the_class_record_lies_where_the_shader_writes_it() {
    use crate::ClassRecord;
    let source = Specialisation::new(Access::Vec4, ElementType::F32, 0).source(&ops::class_statistics::COUNT);
    let module = validate(&source).unwrap();
    let members_of = |wanted: &str| {
        let (members, span) = module
            .types
            .iter()
            .find_map(|(_, ty)| match (&ty.inner, ty.name.as_deref()) {
                (naga::TypeInner::Struct { members, span }, Some(name)) if name == wanted => Some((members, *span)),
                _ => None,
            })
            .unwrap();
        let offset = |member: &naga::StructMember| (member.name.clone().unwrap(), member.offset as usize);
        (members.iter().map(offset).collect::<Vec<_>>(), span as usize)
    };
    let expected = [
        ("pixels", offset_of!(ClassRecord, pixels)),
        ("nan", offset_of!(ClassRecord, nan)),
        ("sums", offset_of!(ClassRecord, row_sum)),
        ("first", offset_of!(ClassRecord, first)),
        ("last", offset_of!(ClassRecord, last)),
    ];
    let expected = expected.map(|(name, offset)| (name.to_owned(), offset)).to_vec();
    assert_eq!(members_of("Record"), (expected, size_of::<ClassRecord>()));
    // The sums are an array in the shader, each of a low and a high word.
    assert_eq!(members_of("Sum"), (vec![("low".to_owned(), 0), ("high".to_owned(), 4)], 8));
    let sums = [offset_of!(ClassRecord, column_sum), offset_of!(ClassRecord, confidence_sum)];
    assert_eq!(sums, [1, 2].map(|which| offset_of!(ClassRecord, row_sum) + 8 * which));
}
