//! Lines with styles: how they are wrapped, and how they are painted.

/// What a piece of text means; the colour follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Strong,
    /// Beside the point.
    Faint,
    Good,
    /// It may pass by itself.
    Waiting,
    /// A person has to do something.
    Bad,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Waiting => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    style: Style,
    text: String,
}

/// One line of output, without its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<Span>);

impl Line {
    pub fn plain(text: impl Into<String>) -> Self {
        Self::of(Style::Plain, text)
    }

    pub fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![Span { style, text: text.into() }])
    }

    /// The same with more text at its end.
    pub fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        let text = text.into();
        match self.0.last_mut().filter(|last| last.style == style) {
            Some(last) => last.text.push_str(&text),
            None => self.0.push(Span { style, text }),
        }
        self
    }

    /// The same with another line at its end.
    pub fn then(self, other: Self) -> Self {
        other.0.into_iter().fold(self, |line, span| line.and(span.style, span.text))
    }

    fn first_style(&self) -> Style {
        self.0.first().map_or(Style::Plain, |span| span.style)
    }

    /// In columns; what is printed here has one for each character.
    fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.chars().count()).sum()
    }

    pub fn paint(&self, colours: bool) -> String {
        let painted = self.0.iter().map(|span| match span.style.code() {
            Some(code) if colours => format!("\u{1b}[{code}m{}\u{1b}[0m", span.text),
            _ => span.text.clone(),
        });
        painted.collect::<String>().trim_end().to_owned()
    }

    /// In pieces that are no wider than this, cut between words, each indented as the first one is. A word
    /// that is wider stays whole, so that it can be copied.
    pub fn wrapped(&self, width: usize) -> Vec<Self> {
        let mut lines = vec![Self::default()];
        let words = self.words();
        let indent = words.first().map_or(0, |(gap, _)| *gap);
        for (gap, word) in words {
            let at = lines.last().map_or(0, Self::width);
            if at > 0 && at + gap + word.width() > width {
                lines.push(Self::plain(" ".repeat(indent)).then(word));
            } else if let Some(line) = lines.last_mut() {
                let blanks = " ".repeat(gap);
                *line = std::mem::take(line).and(word.first_style(), blanks).then(word);
            }
        }
        lines
    }

    /// Each word, which may have several styles, and the blanks before it.
    fn words(&self) -> Vec<(usize, Self)> {
        let mut words = Vec::new();
        let (mut gap, mut word) = (0, Self::default());
        for span in &self.0 {
            for piece in span.text.split_inclusive(' ') {
                let text = piece.trim_end_matches(' ');
                if !text.is_empty() {
                    word = word.and(span.style, text);
                }
                if piece.len() > text.len() {
                    if word.width() > 0 {
                        words.push((std::mem::take(&mut gap), std::mem::take(&mut word)));
                    }
                    gap += piece.len() - text.len();
                }
            }
        }
        if word.width() > 0 {
            words.push((gap, word));
        }
        words
    }
}

/// A title with labelled rows below it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    title: Line,
    rows: Vec<(String, Vec<Line>)>,
}

impl Tree {
    pub fn new(title: Line) -> Self {
        Self { title, rows: Vec::new() }
    }

    pub fn row(&mut self, label: &str, line: Line) {
        self.rows.push((label.to_owned(), vec![line]));
    }

    /// One more line of the last row.
    pub fn more(&mut self, line: Line) {
        if let Some((_, lines)) = self.rows.last_mut() {
            lines.push(line);
        }
    }

    /// Every line, no wider than this.
    pub fn lines(&self, width: usize) -> Vec<Line> {
        let labels = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
        let room = width.saturating_sub(labels + 5).max(20);
        let mut all = self.title.wrapped(width);
        for (at, (label, lines)) in self.rows.iter().enumerate() {
            let is_last = at + 1 == self.rows.len();
            let (branch, trunk) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            for (at, line) in lines.iter().flat_map(|line| line.wrapped(room)).enumerate() {
                let (branch, label) = if at == 0 { (branch, label.as_str()) } else { (trunk, "") };
                let label = Line::of(Style::Faint, branch).and(Style::Plain, format!("{label:labels$}  "));
                all.push(label.then(line));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.paint(false)).collect()
    }

    #[test]
    fn lines_are_cut_between_words_and_words_stay_whole() {
        let line = Line::plain("one two  ").and(Style::Bad, "three").and(Style::Plain, ", four");
        assert_eq!(texts(&line.wrapped(80)), ["one two  three, four"]);
        assert_eq!(texts(&line.wrapped(14)), ["one two", "three, four"]);
        assert_eq!(texts(&line.wrapped(3)), ["one", "two", "three,", "four"]);
        assert_eq!(texts(&Line::default().wrapped(3)), [""]);
        assert_eq!(texts(&Line::plain("  one two three").wrapped(9)), ["  one two", "  three"]);
    }

    #[test]
    fn colours_are_there_only_where_they_are_wanted() {
        let line = Line::of(Style::Bad, "no").and(Style::Plain, " and ").and(Style::Good, "yes");
        assert_eq!(line.paint(false), "no and yes");
        assert_eq!(line.paint(true), "\u{1b}[31mno\u{1b}[0m and \u{1b}[32myes\u{1b}[0m");
        let wrapped = Line::of(Style::Bad, "one two").wrapped(80);
        assert_eq!(wrapped[0].paint(true), "\u{1b}[31mone two\u{1b}[0m");
    }

    #[test]
    fn rows_are_aligned_and_no_line_is_wider_than_asked_for() {
        let mut tree = Tree::new(Line::plain("fleet/factory"));
        tree.row("key", Line::plain("Primary"));
        tree.more(Line::plain("and quite a lot of words that do not fit"));
        tree.row("devices", Line::plain("3"));
        let lines = texts(&tree.lines(40));
        assert_eq!(
            lines,
            [
                "fleet/factory",
                "├─ key      Primary",
                "│           and quite a lot of words",
                "│           that do not fit",
                "└─ devices  3",
            ]
        );
    }
}
