//! Operators that count, and the one that remembers.

use seghead::{
    Activation, BoundaryScore, BoundingBox, Calibration, CalibrationRecord, ClassRecord, ClassStatistics,
    ConfusionMatrix, Error, Gpu, Inspect, LabelType, Logits, Map, Targets, TemporalSmoothing, reference,
};

use crate::found::Found;
use crate::inputs::{CLASSES, Random, run, samples, upload, zeros};

const IGNORED: u32 = 255;

pub async fn check(gpu: &Gpu, found: &mut Found) -> Result<(), Error> {
    for classes in CLASSES {
        for sample in samples(classes)? {
            let (shape, values) = (&sample.shape, &sample.values);
            let got = Inspect::new().run(gpu, shape, values).await?;
            let expected = reference::inspect(shape, values);
            found.equal(&format!("inspect {}", sample.name()), &[got], &[expected], |_| false);
            smooth(gpu, found, shape, values, &sample.name()).await?;
        }
    }
    let map = Logits::nchw(2, 1, 37, 53)?.map();
    let mut random = Random::new(1);
    let mut labels = |classes| -> Vec<u8> {
        let label = |_| if random.below(9) == 0 { IGNORED as u8 } else { random.below(classes) as u8 };
        (0..map.pixels()).map(label).collect()
    };
    let (predictions, targets) = (labels(6).iter().map(|label| label % 6).collect::<Vec<u8>>(), labels(6));
    confusion(gpu, found, &predictions, &targets).await?;
    boundaries(gpu, found, &predictions, &targets).await?;
    let mut random = Random::new(2);
    let confidence: Vec<f32> = (0..map.pixels()).map(|_| random.unit()).collect();
    calibrate(gpu, found, &map, (&predictions, &targets, &confidence)).await?;
    statistics(gpu, found, &map, (&predictions, &confidence)).await
}

fn wide(labels: &[u8]) -> Vec<u32> {
    labels.iter().map(|&label| label.into()).collect()
}

/// Packed pixels as they lie in a map.
fn padded<T: bytemuck::Pod>(map: &Map, packed: &[T]) -> Vec<u8> {
    let mut all = vec![T::zeroed(); (map.images() * map.image_stride()) as usize];
    let of_image = packed.len() / map.images() as usize;
    for (to, from) in all.chunks_mut(map.image_stride() as usize).zip(packed.chunks(of_image)) {
        to[..of_image].copy_from_slice(from);
    }
    bytemuck::cast_slice(&all).to_vec()
}

async fn smooth(gpu: &Gpu, found: &mut Found, shape: &Logits, values: &[f32], name: &str) -> Result<(), Error> {
    for activation in [Activation::Softmax, Activation::Sigmoid] {
        let operator = TemporalSmoothing::new(0.9).activation(activation).probabilities(true);
        let (input, output) = (upload(gpu, bytemuck::cast_slice(values)), zeros(gpu, shape.output().bytes()));
        let state = zeros(gpu, TemporalSmoothing::state_bytes(shape));
        let [from, kept, to] = [&input, &state, &output].map(|buffer| buffer.as_entire_buffer_binding());
        let dispatch = operator.dispatch(gpu, shape, from, kept, to)?;
        let got = run(gpu, |encoder| dispatch.record(encoder), &output).await?;
        let past = vec![0.0; values.len()];
        let expected = reference::temporal_smoothing(shape, values, &past, activation, 0.9).probabilities;
        let got: Vec<f32> = bytemuck::pod_collect_to_vec(&got);
        let what = format!("temporal smoothing {activation:?} {name}");
        found.close(&what, &got[..values.len()], &expected, |_| 1e-5);
    }
    Ok(())
}

async fn confusion(gpu: &Gpu, found: &mut Found, predictions: &[u8], targets: &[u8]) -> Result<(), Error> {
    let got = ConfusionMatrix::new(6).ignore_index(Some(IGNORED.into())).run(gpu, predictions, targets).await?;
    let targets: Vec<i64> = targets.iter().map(|&target| target.into()).collect();
    let expected = reference::confusion_matrix(6, Some(IGNORED.into()), &wide(predictions), &targets);
    found.equal("confusion matrix", got.counts(), &expected.counts, |_| false);
    found.equal("ignored pixels", &[got.ignored()], &[expected.ignored], |_| false);
    Ok(())
}

/// Both images one below the other.
async fn boundaries(gpu: &Gpu, found: &mut Found, predictions: &[u8], targets: &[u8]) -> Result<(), Error> {
    for tolerance in [0, 3] {
        let operator = BoundaryScore::new(6, tolerance).ignore_index(Some(IGNORED.into()));
        let got = operator.run(gpu, [2 * 37, 53], predictions, targets).await?;
        let truth: Vec<i64> = targets.iter().map(|&target| target.into()).collect();
        let expected = reference::boundary_score(6, tolerance, Some(IGNORED.into()), 53, &wide(predictions), &truth);
        found.equal(&format!("boundaries within {tolerance}"), got.classes(), &expected.classes, |_| false);
    }
    Ok(())
}

async fn calibrate(
    gpu: &Gpu,
    found: &mut Found,
    map: &Map,
    (labels, targets, confidence): (&[u8], &[u8], &[f32]),
) -> Result<(), Error> {
    let operator = Calibration::new().bins(10).ignore_index(Some(IGNORED.into()));
    let [predicted, truth] = [labels, targets].map(|labels| upload(gpu, &padded(map, labels)));
    let (scores, records) = (upload(gpu, &padded(map, confidence)), zeros(gpu, operator.bytes(map)));
    let dispatch = operator.dispatch(
        gpu,
        map,
        (predicted.as_entire_buffer_binding(), LabelType::U8),
        scores.as_entire_buffer_binding(),
        Targets::new(truth.as_entire_buffer_binding(), LabelType::U8),
        records.as_entire_buffer_binding(),
    )?;
    let bytes = run(gpu, |encoder| dispatch.record(encoder), &records).await?;
    let got: Vec<CalibrationRecord> = bytemuck::pod_collect_to_vec(&bytes);
    let of_image = labels.len() / map.images() as usize;
    let images = labels.chunks(of_image).zip(targets.chunks(of_image)).zip(confidence.chunks(of_image));
    let expected = images.flat_map(|((labels, targets), confidence)| {
        reference::calibration(10, confidence, &wide(labels), &wide(targets), Some(IGNORED))
    });
    let expected: Vec<_> = expected.map(|bin| [bin.pixels, bin.right]).collect();
    let got: Vec<_> = got.iter().map(|bin| [u64::from(bin.pixels), u64::from(bin.right)]).collect();
    found.equal("calibration", &got, &expected, |_| false);
    Ok(())
}

async fn statistics(
    gpu: &Gpu,
    found: &mut Found,
    map: &Map,
    (labels, confidence): (&[u8], &[f32]),
) -> Result<(), Error> {
    let operator = ClassStatistics::new(6);
    let (input, scores) = (upload(gpu, &padded(map, labels)), upload(gpu, &padded(map, confidence)));
    let records = zeros(gpu, operator.bytes(map));
    let (from, to) = (input.as_entire_buffer_binding(), records.as_entire_buffer_binding());
    let dispatch = operator.dispatch(gpu, map, from, LabelType::U8, Some(scores.as_entire_buffer_binding()), to)?;
    let bytes = run(gpu, |encoder| dispatch.record(encoder), &records).await?;
    let got: Vec<ClassRecord> = bytemuck::pod_collect_to_vec(&bytes);
    let expected = reference::class_statistics(map, 6, &wide(labels), Some(confidence));
    let sides = |BoundingBox { top, left, height, width }| [top, left, height, width];
    let counted: Vec<_> = got.iter().map(|one| (u64::from(one.pixels), one.bounding_box().ok().map(sides))).collect();
    let exact: Vec<_> = expected.iter().map(|one| (one.pixels, one.bounding_box.map(sides))).collect();
    found.equal("class statistics", &counted, &exact, |_| false);
    let means: Vec<f32> = got.iter().map(|one| one.mean_confidence().map_or(f32::NAN, |mean| mean as f32)).collect();
    let exact: Vec<f64> = expected.iter().map(|one| one.confidence_sum / one.pixels as f64).collect();
    found.close("mean confidences", &means, &exact, |_| 1e-6);
    Ok(())
}
