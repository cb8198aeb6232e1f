//! `seghead doctor`: every kernel in every specialisation that the chosen adapter takes, against the f64 reference.
//!
//! Each operator has a file with its cases. A case runs one specialisation, or a few kernels that work together, on small
//! tensors and compares all that they write. Which specialisations there are is known from the library, so that one
//! that no case has run is found.

mod argmax;
mod bench;
mod binary_cross_entropy;
mod boundary_score;
mod calibration;
mod class_statistics;
mod confusion_matrix;
mod cross_entropy;
mod data;
mod findings;
mod focal_loss;
mod gradients;
mod inspect;
mod interpolate;
mod loss_sum;
mod multi_label;
mod overlay;
mod region_loss;
mod resizing;
mod scores;
mod segment;
mod sigmoid;
mod soft_mask;
mod soft_targets;
mod softmax;
mod temporal_smoothing;
mod top_k;
mod upsampled_cross_entropy;
mod windows;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use seghead::wgpu::{DeviceDescriptor, ErrorFilter, Limits};
use seghead::{Error as GpuError, Gpu, GpuOptions, SpecialisedKernel};
use serde_json::json;

use self::findings::{Failure, Findings};
use super::{number, open_gpu, print_result, same_adapter};
use crate::args::{Common, Doctor};
use crate::error::Error;
use crate::progress::Progress;

type Cases = Vec<Case>;

/// The cases of all operators.
fn cases() -> Cases {
    let operators = [
        argmax::cases,
        binary_cross_entropy::cases,
        boundary_score::cases,
        calibration::cases,
        class_statistics::cases,
        confusion_matrix::cases,
        cross_entropy::cases,
        focal_loss::cases,
        gradients::cases,
        inspect::cases,
        interpolate::cases,
        loss_sum::cases,
        multi_label::cases,
        overlay::cases,
        region_loss::cases,
        segment::cases,
        sigmoid::cases,
        soft_mask::cases,
        soft_targets::cases,
        softmax::cases,
        temporal_smoothing::cases,
        top_k::cases,
        upsampled_cross_entropy::cases,
        windows::cases,
    ];
    operators.into_iter().flat_map(|cases| cases()).collect()
}

/// What a case runs on.
struct Context {
    gpu: Gpu,
    options: GpuOptions,
}

impl Context {
    /// The same on a second device of the adapter, which binds no more than so many bytes.
    fn binding(&self, bytes: u64) -> Result<Self, GpuError> {
        let adapters = pollster::block_on(Gpu::adapters(&self.options))?;
        let chosen = self.gpu.adapter_info();
        let adapter = adapters.iter().find(|adapter| same_adapter(&adapter.get_info(), chosen)).unwrap_or(&adapters[0]);
        let limits = adapter.limits();
        let descriptor = DeviceDescriptor {
            label: Some("seghead doctor"),
            required_features: self.gpu.device().features(),
            required_limits: Limits {
                max_storage_buffer_binding_size: bytes,
                max_uniform_buffer_binding_size: limits.max_uniform_buffer_binding_size.min(bytes),
                min_storage_buffer_offset_alignment: 256,
                ..limits
            },
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|source| GpuError::RequestDevice { adapter: chosen.name.clone(), source })?;
        Ok(Self { gpu: Gpu::from_wgpu(device, queue), options: self.options.clone() })
    }
}

type Run = dyn Fn(&Context, &mut Findings) -> Result<(), GpuError> + Send + Sync;

/// Something to run and to compare.
struct Case {
    /// The kernels that it is there for.
    kernels: &'static [&'static str],
    /// What is special about it, for where nothing can be run.
    what: String,
    run: Box<Run>,
}

impl Case {
    fn new(
        kernels: &'static [&'static str],
        what: String,
        run: impl Fn(&Context, &mut Findings) -> Result<(), GpuError> + Send + Sync + 'static,
    ) -> Self {
        Self { kernels, what, run: Box::new(run) }
    }

    /// What it finds, or why it could not be run.
    fn find(&self, context: &Context) -> Findings {
        let mut findings = Findings::default();
        if let Err(error) = guarded(&context.gpu, || (self.run)(context, &mut findings)) {
            // What was compared is worth nothing then.
            let message = format!("{}: {}: {error}", self.kernels.join(" or "), self.what);
            let failures = vec![Failure { suspects: self.kernels.to_vec(), message }];
            return Findings { failures, ..Findings::default() };
        }
        findings
    }
}

/// Does `work`, and returns what the device holds against it.
fn guarded<R>(gpu: &Gpu, work: impl FnOnce() -> Result<R, GpuError>) -> Result<R, GpuError> {
    let filters = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation];
    let scopes = filters.map(|filter| gpu.device().push_error_scope(filter));
    let result = work();
    let mut first = None;
    for scope in scopes.into_iter().rev() {
        first = first.or(pollster::block_on(scope.pop()));
    }
    match first {
        // Why the rest has failed.
        Some(error) => {
            let text = error.to_string();
            Err(GpuError::Device(text.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
        None => result,
    }
}

pub fn run(args: &Doctor, common: &Common) -> Result<(), Error> {
    let start = Instant::now();
    let wanted = |kernel: &str| args.kernel.as_ref().is_none_or(|part| kernel.contains(part));
    let mut cases = cases();
    cases.retain(|case| case.kernels.iter().any(|kernel| wanted(kernel)));
    if cases.is_empty() {
        return Err(Error::Usage(format!(
            "--kernel {}: expected a part of a kernel's name",
            args.kernel.as_deref().unwrap_or("")
        )));
    }
    let progress = Progress::start("testing every kernel", common);
    let options = common.gpu_options();
    let gpu = open_gpu(common)?;
    let mut findings = find_all(&cases, &gpu, &options);
    let mut all: BTreeSet<_> = data::CLASSES.into_iter().flat_map(|classes| gpu.kernels(classes)).collect();
    all.retain(|one| wanted(one.kernel));
    for one in all.difference(&findings.ran) {
        let message = format!("{one}: never run");
        findings.failures.push(Failure { suspects: vec![one.kernel], message });
    }
    findings.explain();
    drop(progress);
    report(common, &gpu, &all, &findings, start.elapsed().as_secs_f64())?;
    let Some(first) = findings.failures.first() else { return Ok(()) };
    let more = match findings.failures.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Err(Error::Wrong(format!("{}{more}", first.message)))
}

/// Runs the cases, on as many threads as there are processors. Each thread has a device of its own: software adapters
/// compile a kernel when it first runs, on the one thread of the device's queue.
fn find_all(cases: &[Case], gpu: &Gpu, options: &GpuOptions) -> Findings {
    let queue = Mutex::new(cases.iter().enumerate());
    let found = Mutex::new(Vec::new());
    let work = |context: &Context| {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((i, case)) = next else { return };
            let findings = case.find(context);
            found.lock().unwrap_or_else(PoisonError::into_inner).push((i, findings));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || {
                let own = if thread == 0 { None } else { Gpu::headless_blocking(options).ok() };
                work(&Context { gpu: own.unwrap_or_else(|| gpu.clone()), options: options.clone() });
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(i, _)| *i);
    let mut all = Findings::default();
    found.into_iter().for_each(|(_, findings)| all.add(findings));
    all
}

/// Prints a line for every kernel.
fn report(
    common: &Common,
    gpu: &Gpu,
    all: &BTreeSet<SpecialisedKernel>,
    findings: &Findings,
    seconds: f64,
) -> Result<(), Error> {
    let info = gpu.adapter_info();
    let access = format!("{:?}", gpu.access()).to_lowercase();
    let mut text = format!("{} ({}), reads {access} and scalar\n\n", info.name, info.backend);
    text += "kernel                         specialisations     values  worst error\n";
    let mut rows = Vec::new();
    let kernels: BTreeSet<_> = all.iter().map(|one| one.kernel).collect();
    for kernel in kernels {
        let of = |list: &BTreeSet<SpecialisedKernel>| list.iter().filter(|one| one.kernel == kernel).count();
        let (ran, there_are) = (of(&findings.ran), of(all));
        let tally = findings.tallies.get(kernel).copied().unwrap_or_default();
        let failures: Vec<_> = findings.failures.iter().filter(|failure| failure.suspects.contains(&kernel)).collect();
        let ok = failures.is_empty();
        let specialisations = format!("{ran} of {there_are}");
        let verdict = if ok { "ok" } else { "WRONG" };
        text += &format!("{kernel:29}  {specialisations:>15} {:>10} {:>12.3}  {verdict}\n", tally.values, tally.worst);
        rows.push(json!({
            "kernel": kernel,
            "ran": ran,
            "specialisations": there_are,
            "values": tally.values,
            "worst": number(tally.worst),
            "ok": ok,
            "failures": failures.iter().map(|failure| &failure.message).collect::<Vec<_>>(),
        }));
    }
    text += &format!("\nworst error: 1 is the bound that follows from the rounding of f32; {seconds:.1} s\n");
    let report = json!({
        "adapter": info.name,
        "backend": info.backend.to_string(),
        "access": access,
        "kernels": rows,
        "seconds": seconds,
        "ok": findings.failures.is_empty(),
    });
    print_result(common, &report, &text)
}
