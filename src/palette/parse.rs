//! Palettes out of text files.

use super::Palette;
use crate::Error;

/// [`Palette::parse`].
pub(super) fn parse(text: &str) -> Result<Palette, Error> {
    // Editors on Windows put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let gimp = text.starts_with("GIMP Palette");
    let mut order = None;
    let (mut colours, mut names) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || is_comment(line) || (gimp && is_gimp_header(line)) {
            continue;
        }
        if colours.is_empty() && order.is_none() {
            order = header(line);
            if order.is_some() {
                continue;
            }
        }
        let failed = |expected| Error::PaletteLine { line: number, expected, found: line.chars().take(80).collect() };
        let (colour, name) = class(line, order).map_err(failed)?;
        colours.push(colour);
        // What GIMP calls a colour without a name.
        names.push(if gimp && name == "Untitled" { String::new() } else { name });
    }
    if colours.is_empty() {
        return Err(Error::Empty { what: "colours of the palette" });
    }
    Ok(Palette::new(colours).with_names(names))
}

fn is_comment(line: &str) -> bool {
    let hash = line.strip_prefix('#').is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
    hash || line.starts_with(';') || line.starts_with("//")
}

/// The lines in front of the colours; comments of GIMP need no space.
fn is_gimp_header(line: &str) -> bool {
    ["GIMP Palette", "Name:", "Columns:", "#"].iter().any(|start| line.starts_with(start))
}

/// Where the name stands in a line of four fields with commas.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    NameFirst,
    NameLast,
}

/// What a header says, if the line is one. A column before the name, such as that of an index, is not understood.
fn header(line: &str) -> Option<Order> {
    let separators: &[char] = if line.contains(',') { &[','] } else { &[' ', '\t'] };
    let fields: Vec<_> = line.split(separators).map(|field| unquoted(field).to_lowercase()).collect();
    let initials = |window: &[String]| {
        window.iter().zip(["r", "g", "b"]).zip(["red", "green", "blue"]).all(|((field, a), b)| field == a || field == b)
    };
    let start = fields.windows(3).position(initials)?;
    [Order::NameLast, Order::NameFirst].get(start).copied()
}

const CHANNELS: &str = "r, g and b in 0..=255";

/// The colour and the name in a line, or what was expected there.
fn class(line: &str, order: Option<Order>) -> Result<([u8; 3], String), &'static str> {
    if let Some(line) = line.strip_prefix('#') {
        let (digits, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        return Ok((hexadecimal(digits).ok_or("#rrggbb with hexadecimal digits")?, name.trim().to_owned()));
    }
    if line.contains(',') {
        return separated(line, order);
    }
    let (mut rest, mut channels) = (line, [0; 3]);
    for channel in &mut channels {
        let (field, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        *channel =
            number(field).ok_or(if is_number(field) { CHANNELS } else { "r g b [name], #rrggbb [name] or CSV" })?;
        rest = behind.trim_start();
    }
    // "7 128 64 128 road" has the index of the class in front: its colour would be taken for (7, 128, 64).
    if rest.split_whitespace().next().is_some_and(is_number) {
        return Err("r g b [name], without an index, or CSV with a header where names are numbers");
    }
    Ok((channels, rest.to_owned()))
}

/// A line with commas. Names may have commas too, so the numbers are looked for at either end.
fn separated(line: &str, order: Option<Order>) -> Result<([u8; 3], String), &'static str> {
    let colour = |fields: &[&str]| -> Option<[u8; 3]> {
        let channels: Option<Vec<_>> = fields.iter().map(|field| number(unquoted(field))).collect();
        channels?.try_into().ok()
    };
    let fields: Vec<_> = line.split(',').collect();
    let count = fields.len();
    let first = fields.get(..3).and_then(colour);
    let last = count.checked_sub(3).and_then(|start| colour(&fields[start..]));
    let name = |fields: &[&str]| unquoted(&fields.join(",")).to_owned();
    match (first, last) {
        (Some(colour), _) if count == 3 => Ok((colour, String::new())),
        (Some(_), Some(_)) if order.is_none() => Err("a header such as name,r,g,b where names are numbers"),
        (Some(colour), last) if last.is_none() || order == Some(Order::NameLast) => Ok((colour, name(&fields[3..]))),
        (_, Some(colour)) => Ok((colour, name(&fields[..count - 3]))),
        _ if fields.iter().filter(|field| is_number(unquoted(field))).count() >= 3 => Err(CHANNELS),
        _ => Err("name,r,g,b or r,g,b,name"),
    }
}

/// A field without the space and the quotes around it.
fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field).trim()
}

/// Digits only: a `u8` may also be parsed with a sign.
fn number(field: &str) -> Option<u8> {
    field.bytes().all(|byte| byte.is_ascii_digit()).then(|| field.parse().ok())?
}

fn is_number(field: &str) -> bool {
    field.parse::<f64>().is_ok()
}

fn hexadecimal(digits: &str) -> Option<[u8; 3]> {
    let value = (digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(digits, 16).ok())??;
    let [_, red, green, blue] = value.to_be_bytes();
    Some([red, green, blue])
}
