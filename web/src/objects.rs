//! Plain JavaScript objects.

use js_sys::{Array, Float64Array, Object, Reflect};
use seghead::{Axis, Finding};
use wasm_bindgen::JsValue;

/// An object with these properties.
pub fn object(properties: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in properties {
        // Fails for what is no object.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object
}

pub fn numbers(values: &[f64]) -> JsValue {
    Float64Array::from(values).into()
}

/// A finding as the page puts it into words: its name, the numbers in it, and the library's own line.
pub fn finding(finding: &Finding) -> JsValue {
    let message = ("message", JsValue::from(finding.to_string()));
    let named = |kind: &str, rest: Vec<(&'static str, JsValue)>| {
        let properties: Vec<_> = [("kind", JsValue::from(kind)), message.clone()].into_iter().chain(rest).collect();
        object(&properties).into()
    };
    let count = |count: u64| JsValue::from(count as f64);
    let list = |classes: &[u32]| classes.iter().map(|&class| JsValue::from(class)).collect::<Array>().into();
    match finding {
        Finding::NotFinite { nan, positive_infinity, negative_infinity, classes } => {
            let infinite = [("positive", count(*positive_infinity)), ("negative", count(*negative_infinity))];
            let mut rest = vec![("nan", count(*nan)), ("classes", list(classes))];
            rest.extend(infinite);
            named("notFinite", rest)
        }
        Finding::Probabilities { .. } => named("probabilities", vec![]),
        Finding::LogProbabilities { .. } => named("logProbabilities", vec![]),
        Finding::WrongAxis { axis, .. } => {
            let axis = match axis {
                Axis::Class => "class",
                Axis::Height => "height",
                Axis::Width => "width",
            };
            named("wrongAxis", vec![("axis", axis.into())])
        }
        Finding::SigmoidOutputs { .. } => named("sigmoidOutputs", vec![]),
        Finding::Layout { classes_last, .. } => named("layout", vec![("classesLast", (*classes_last).into())]),
        Finding::Constant { value: Some(value), .. } => named("constant", vec![("value", (*value).into())]),
        Finding::Constant { classes, of, .. } => {
            named("constantClasses", vec![("classes", list(classes)), ("of", (*of).into())])
        }
        Finding::OneClass => named("oneClass", vec![]),
        _ => named("other", vec![]),
    }
}
