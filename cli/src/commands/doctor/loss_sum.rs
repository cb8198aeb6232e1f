//! Cases of [`LossSum`]: the losses by themselves, added up.

use seghead::{BinaryCrossEntropy, Error, LossBuffers, LossRecord, LossSum, RegionLoss};

use super::bench::Bench;
use super::data::{Random, Reading, Sample};
use super::findings::{FLUSHED, Findings, Subject, U};
use super::{Case, Cases, Context};

const KERNELS: &[&str] = &["loss sum scale", "loss sum add", "loss sum record"];
const WEIGHTS: [f32; 2] = [0.75, -2.0];

pub fn cases() -> Cases {
    // The gradients that are added are f32, and classes do not meet.
    let readings = Reading::of(5).filter(|reading| reading.element_type == seghead::ElementType::F32);
    readings
        .map(|reading| {
            Case::new(KERNELS, format!("{reading}"), move |context, findings| {
                check(context, findings, reading.samples(true)?)
            })
        })
        .collect()
}

fn check(context: &Context, findings: &mut Findings, samples: Vec<Sample>) -> Result<(), Error> {
    let gpu = &context.gpu;
    let (binary, dice) = (BinaryCrossEntropy::new(), RegionLoss::dice());
    // Each by itself, with the weight 1, and the sum of both.
    let sums = [
        LossSum::new(1.0, binary.clone()),
        LossSum::new(1.0, dice.clone()),
        LossSum::new(WEIGHTS[0], binary).add(WEIGHTS[1], dice),
    ];
    let mut bench = Bench::new(gpu);
    let mut works = Vec::new();
    for sample in samples {
        let shape = sample.shape;
        let mut random = Random::new(19);
        let targets = Sample::new("", shape.output(), &mut |_, _| random.below(2) as f32);
        let (input, target) = (bench.input(&sample.bytes()), bench.input(&targets.bytes()));
        let mut dispatches = Vec::new();
        for sum in &sums {
            let (record, gradient) = (bench.output(16), bench.output(shape.output().bytes()));
            let buffers = LossBuffers::new(record.as_entire_buffer_binding());
            let buffers = buffers.gradient(gradient.as_entire_buffer_binding());
            let (input, target) = (input.as_entire_buffer_binding(), target.as_entire_buffer_binding());
            let dispatch = sum.dispatch_soft(gpu, &shape, input, target, buffers)?;
            bench.record(&dispatch, &[&record, &gradient])?;
            dispatches.push(dispatch);
        }
        works.push((sample, dispatches));
    }
    let mut results = bench.run()?;
    for (sample, dispatches) in &works {
        let mut found = dispatches.iter().map(|_| {
            let record: LossRecord = bytemuck::pod_read_unaligned(&results.bytes());
            (record, results.bytes())
        });
        let (Some(binary), Some(dice), Some(sum)) = (found.next(), found.next(), found.next()) else { continue };
        let subject = Subject::new(&dispatches[2], KERNELS, &sample.name);
        let [of_binary, of_dice] = [&binary.1, &dice.1].map(|bytes| sample.unpack(bytes));
        let weighted =
            |i: usize| [(0, of_binary[i]), (1, of_dice[i])].map(|(k, x)| f64::from(WEIGHTS[k]) * f64::from(x));
        let expected: Vec<f64> = (0..of_binary.len()).map(|i| weighted(i).iter().sum()).collect();
        let tolerance = |i: usize| 4.0 * (U * weighted(i).iter().map(|x| x.abs()).sum::<f64>() + FLUSHED);
        let right = findings.compare(&subject, "gradient", &sample.unpack(&sum.1), &expected, tolerance);
        let losses = [binary.0.loss, dice.0.loss].map(f64::from);
        let losses = [0, 1].map(|k| f64::from(WEIGHTS[k]) * losses[k]);
        let size = losses.iter().map(|x| x.abs()).sum::<f64>();
        findings.compare(&subject, "loss", &[sum.0.loss], &[losses.iter().sum()], |_| 4.0 * U * size);
        if right {
            let outside = sample.written_outside(&sum.1);
            findings.conclude(&subject, outside.map(|i| format!("element {i}, outside the rectangle, was written")));
        }
    }
    Ok(())
}
