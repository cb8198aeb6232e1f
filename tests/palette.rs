//! Palettes: the definitions of the data sets, and palettes out of text.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use proptest::prelude::*;
use seghead::{Error, Palette};

fn distinct(palette: &Palette) -> usize {
    palette.colours().iter().collect::<HashSet<_>>().len()
}

#[track_caller]
fn pinned(palette: &Palette, classes: &[(u32, &str, [u8; 3])]) {
    for &(class, name, colour) in classes {
        assert_eq!((palette.name(class), palette.colour(class)), (Some(name), Some(colour)), "{class}");
    }
}

#[test]
fn voc_is_that_of_the_development_kit() {
    let voc = Palette::voc();
    let first = [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
        [192, 0, 0],
        [64, 128, 0],
        [192, 128, 0],
        [64, 0, 128],
        [192, 0, 128],
        [64, 128, 128],
        [192, 128, 128],
        [0, 64, 0],
        [128, 64, 0],
        [0, 192, 0],
        [128, 192, 0],
        [0, 64, 128],
    ];
    assert_eq!(voc.colours()[..21], first);
    assert_eq!((voc.len(), distinct(&voc), voc.colour(255)), (256, 256, Some([224, 224, 192])));
    assert_eq!((voc.name(0), voc.name(15), voc.name(20)), (Some("background"), Some("person"), Some("tvmonitor")));
    assert_eq!((voc.name(21), voc.name(255), voc.colour(256)), (None, None, None));
}

#[test]
fn cityscapes_are_train_ids() {
    let palette = Palette::cityscapes();
    assert_eq!((palette.len(), distinct(&palette)), (19, 19));
    pinned(
        &palette,
        &[
            (0, "road", [128, 64, 128]),
            (1, "sidewalk", [244, 35, 232]),
            (8, "vegetation", [107, 142, 35]),
            (10, "sky", [70, 130, 180]),
            (11, "person", [220, 20, 60]),
            (13, "car", [0, 0, 142]),
            (18, "bicycle", [119, 11, 32]),
        ],
    );
}

#[test]
fn ade20k_is_the_scene_parsing_benchmark() {
    let palette = Palette::ade20k();
    assert_eq!(palette.len(), 150);
    pinned(
        &palette,
        &[
            (0, "wall", [120, 120, 120]),
            (2, "sky", [6, 230, 230]),
            (4, "tree", [4, 200, 3]),
            (12, "person", [150, 5, 61]),
            (20, "car", [0, 102, 200]),
            (89, "television", [0, 255, 194]),
            (149, "flag", [92, 0, 255]),
        ],
    );
    // The definition has one colour twice.
    assert_eq!(distinct(&palette), 149);
    pinned(&palette, &[(6, "road", [140, 140, 140]), (48, "skyscraper", [140, 140, 140])]);
    let names: HashSet<_> = (0..150).map(|class| palette.name(class).unwrap()).collect();
    assert_eq!(names.len(), 150);
}

#[test]
fn camvid_is_segnets_and_the_whole() {
    let (segnet, all) = (Palette::camvid(), Palette::camvid32());
    assert_eq!((segnet.len(), distinct(&segnet), all.len(), distinct(&all)), (12, 12, 32, 32));
    pinned(
        &segnet,
        &[
            (0, "Sky", [128, 128, 128]),
            (1, "Building", [128, 0, 0]),
            (3, "Road", [128, 64, 128]),
            (4, "Pavement", [60, 40, 222]),
            (10, "Bicyclist", [0, 128, 192]),
            (11, "Unlabelled", [0, 0, 0]),
        ],
    );
    pinned(
        &all,
        &[
            (0, "Animal", [64, 128, 64]),
            (17, "Road", [128, 64, 128]),
            (19, "Sidewalk", [0, 0, 192]),
            (30, "Void", [0, 0, 0]),
            (31, "Wall", [64, 192, 0]),
        ],
    );
    // What both have, but for the pavement, has one colour.
    let shared = segnet.colours().iter().filter(|colour| all.colours().contains(colour)).count();
    assert_eq!(shared, 11);
}

#[test]
fn every_name_is_a_palette() {
    for name in Palette::NAMES {
        let palette = Palette::by_name(name).unwrap();
        assert!(palette.name(0).is_some() && !palette.is_empty(), "{name}");
    }
    let lengths = Palette::NAMES.map(|name| Palette::by_name(name).unwrap().len());
    assert_eq!(lengths, [256, 19, 150, 12, 32]);
    assert_eq!(Palette::by_name("VOC"), Some(Palette::voc()));
    assert_eq!(Palette::by_name("vox"), None);
}

#[test]
fn names_are_those_that_are_given() {
    let palette = Palette::new(vec![[1, 2, 3]; 3]).with_names(["a", ""]);
    assert_eq!([0, 1, 2, 3].map(|class| palette.name(class)), [Some("a"), None, None, None]);
    assert_eq!(Palette::new(vec![]).with_names(["a"]).name(0), None);
}

/// Two classes in every notation.
#[test]
fn notations() {
    let expected = Palette::new(vec![[128, 64, 0], [0, 255, 7]]).with_names(["road", "traffic light"]);
    let nameless = Palette::new(expected.colours().to_vec());
    for (text, expected) in [
        ("128 64 0 road\n0 255 7 traffic light", &expected),
        ("128\t64\t0\t\troad\r\n  0  255   7  traffic light  \r\n", &expected),
        ("\u{feff}#804000 road\n#00fF07\ttraffic light\n", &expected),
        ("road,128,64,0\ntraffic light,0,255,7\n", &expected),
        ("128,64,0,road\n0,255,7,traffic light\n", &expected),
        ("128, 64, 0, \"road\"\n0, 255, 7, \"traffic light\"\n", &expected),
        ("name,r,g,b\nroad,128,64,0\ntraffic light,0,255,7", &expected),
        ("r,g,b,name\n128 64 0\troad\n0 255 7\ttraffic light", &expected),
        (
            "# colours\n\n; more\n// and more\n#\nRed,Green,Blue,Class\n128,64,0,road\n\n0,255,7,traffic light",
            &expected,
        ),
        (
            "GIMP Palette\nName: streets\nColumns: 2\n#\n#no colour\n128  64   0\troad\n  0 255   7\ttraffic light",
            &expected,
        ),
        ("GIMP Palette\n128 64 0 Untitled\n0 255 7 Untitled", &nameless),
        ("128 64 0\n0 255 7", &nameless),
        ("128,64,0\n0,255,7", &nameless),
        ("#804000\n#00ff07", &nameless),
    ] {
        assert_eq!(&Palette::parse(text).unwrap(), expected, "{text}");
    }
    // Names that are numbers or have commas.
    for (text, name) in [
        ("name,r,g,b\n0,128,64,7", "0"),
        ("r,g,b,name\n128,64,7,0", "0"),
        ("building, edifice,128,64,7", "building, edifice"),
        ("128,64,7,\"building, edifice\"", "building, edifice"),
        ("128 64 7 Straße 東", "Straße 東"),
    ] {
        let palette = Palette::parse(text).unwrap();
        assert_eq!((palette.colours(), palette.name(0)), (&[[128, 64, 7]][..], Some(name)), "{text}");
    }
}

#[test]
fn lines_that_are_no_colour() {
    for (text, line, expected) in [
        ("0 0 0\n\n0 256 0 x", 3, "r, g and b in 0..=255"),
        ("0 0 -1", 1, "r, g and b in 0..=255"),
        ("0 0 +1", 1, "r, g and b in 0..=255"),
        ("0.5 0 1", 1, "r, g and b in 0..=255"),
        ("0 0", 1, "r g b"),
        ("road", 1, "r g b"),
        ("GIMP Palette\nroad", 2, "r g b"),
        ("#12345", 1, "#rrggbb"),
        ("#1234567 x", 1, "#rrggbb"),
        ("#+12345", 1, "#rrggbb"),
        ("#comment", 1, "#rrggbb"),
        ("road,1,2,300", 1, "r, g and b in 0..=255"),
        ("road,1,2", 1, "name,r,g,b"),
        ("1,2", 1, "name,r,g,b"),
        ("0,128,64,7", 1, "header"),
        ("7 128 64 128 road", 1, "without an index"),
        ("128 64 7 0", 1, "without an index"),
        ("0 0 0 field\n1 2 3 4 5 6", 2, "without an index"),
        ("id,name,r,g,b\n0,road,128,64,128", 1, "name,r,g,b"),
        ("0 0 0\nname,r,g,b", 2, "name,r,g,b"),
    ] {
        let error = Palette::parse(text).unwrap_err();
        assert!(
            matches!(error, Error::PaletteLine { line: at, expected: what, .. } if at == line && what.contains(expected)),
            "{text}: {error}"
        );
        assert_eq!(error.to_string().lines().count(), 1);
    }
    for text in ["", "\n# nothing\n", "GIMP Palette\nName: x\n", "name,r,g,b"] {
        assert!(matches!(Palette::parse(text).unwrap_err(), Error::Empty { .. }), "{text}");
    }
    let long = Palette::parse(&"x".repeat(100_000)).unwrap_err().to_string();
    assert!(long.len() < 200, "{long}");
}

proptest! {
    #[test]
    fn any_text_is_a_palette_or_one_line(text in "([0-9]{1,3}[ ,\t]|[a-z#;/\"\n\u{e9}]| ){0,40}") {
        match Palette::parse(&text) {
            Ok(palette) => prop_assert!(!palette.is_empty()),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }

    #[test]
    fn what_is_written_out_is_read_again(
        classes in proptest::collection::vec((any::<[u8; 3]>(), "([a-z][a-z0-9 ,]{0,10}[a-z])?"), 1..40),
    ) {
        let colours: Vec<_> = classes.iter().map(|class| class.0).collect();
        let expected = Palette::new(colours).with_names(classes.iter().map(|class| class.1.clone()));
        let lines = |line: &dyn Fn([u8; 3], &str) -> String| -> String {
            classes.iter().map(|(colour, name)| line(*colour, name) + "\n").collect()
        };
        for text in [
            lines(&|[r, g, b], name| format!("#{r:02x}{g:02x}{b:02x} {name}")),
            lines(&|[r, g, b], name| format!("{r},{g},{b},\"{name}\"")),
            lines(&|[r, g, b], name| format!("\"{name}\",{r},{g},{b}")),
        ] {
            prop_assert_eq!(&Palette::parse(&text).unwrap(), &expected, "{}", text);
        }
    }
}
