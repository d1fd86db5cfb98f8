//! What is shown: for people as text, for machines as JSON of the same shape.

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::measure::{Times, quantile};

/// Width of a table's first column, in characters.
const NAME_WIDTH: usize = 14;
/// Width of every other one.
const CELL_WIDTH: usize = 20;
const HEAD: Style = Style::new().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();

/// Two columns by their places: the first one's time divided by the second one's.
pub(crate) type Pair = (usize, usize);

/// Calls down, places to make them across.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    title: String,
    columns: Vec<Column>,
    ratios: Vec<String>,
    /// One for each call.
    pub(crate) rows: Vec<Row>,
}

/// One place to make calls.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    /// Its head.
    pub(crate) name: String,
    /// Why there are no figures, if there are none.
    pub(crate) skipped: Option<String>,
}

/// One call's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    call: String,
    figures: Vec<Option<Figures>>,
    ratios: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// Median of the turns' medians.
    median_ns: f64,
    /// What 99 of 100 single calls do not exceed.
    p99_ns: f64,
    calls: usize,
}

impl Column {
    /// A place that is there.
    pub(crate) fn there(name: &str) -> Column {
        Column { name: name.to_owned(), skipped: None }
    }
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: &str, columns: Vec<Column>, pairs: &[Pair]) -> Table {
        let name = |place: usize| columns[place].name.trim_end_matches(" keys");
        let ratios = pairs.iter().map(|&(over, under)| format!("{}/{}", name(over), name(under)));
        let (title, ratios) = (title.to_owned(), ratios.collect());
        Table { title, columns, ratios, rows: Vec::new() }
    }

    /// Prints it, aligned; in colour if standard output is a terminal.
    pub(crate) fn print(&self) {
        anstream::println!("{HEAD}{}{HEAD:#}", self.title);
        let names = self.columns.iter().map(|column| &column.name).chain(&self.ratios);
        let head: String = names.map(|name| format!("{name:>CELL_WIDTH$}")).collect();
        anstream::println!("{HEAD}{:NAME_WIDTH$}{head}{HEAD:#}", "");
        for row in &self.rows {
            anstream::println!("{:NAME_WIDTH$}{}", row.call, row.cells());
        }
        for Column { name, skipped } in &self.columns {
            if let Some(why) = skipped {
                anstream::println!("{WARNING}{name}: skipped: {why}{WARNING:#}");
            }
        }
    }
}

impl Row {
    /// Sums up what was measured, a column each.
    pub(crate) fn new(call: &str, mut times: Vec<Option<Times>>, pairs: &[Pair]) -> Row {
        let ratios = pairs.iter().map(|&(over, under)| {
            let (over, under) = (times[over].as_ref()?, times[under].as_ref()?);
            let turns = over.turns_ns.iter().zip(&under.turns_ns);
            let mut ratios: Vec<f64> = turns.map(|(over, under)| over / under.max(1.0)).collect();
            Some(quantile(&mut ratios, 0.5))
        });
        let ratios = ratios.collect();
        let figures = times.iter_mut().map(|times| times.as_mut().map(Figures::of)).collect();
        Row { call: call.to_owned(), figures, ratios }
    }

    fn cells(&self) -> String {
        let figures = self.figures.iter().map(|figures| match figures {
            Some(figures) => {
                format!("{:.2} ({:.2})", figures.median_ns / 1e3, figures.p99_ns / 1e3)
            }
            None => "skipped".to_owned(),
        });
        let ratios = self.ratios.iter().map(|ratio| match ratio {
            Some(ratio) => format!("{ratio:.2}"),
            None => "-".to_owned(),
        });
        figures.chain(ratios).map(|cell| format!("{cell:>CELL_WIDTH$}")).collect()
    }
}

impl Figures {
    fn of(times: &mut Times) -> Figures {
        Figures {
            median_ns: quantile(&mut times.turns_ns, 0.5),
            p99_ns: quantile(&mut times.calls_ns, 0.99),
            calls: times.calls_ns.len(),
        }
    }
}
