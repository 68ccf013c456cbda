//! The `.xml` file: text to lists of layers and edges, one element after the other. Nothing is kept of elements that
//! are not asked for, entities of a document's own are not expanded, and depth costs nothing but a counter.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::Limits;
use crate::onnx::fail::{Outcome, malformed, shown};

/// Attributes of one element.
const ATTRIBUTES: usize = 100;
/// Layers for each node that [`Limits::nodes`] allows: constants are layers, too.
const LAYERS_PER_NODE: usize = 8;
/// Ports of one layer.
const PORTS: usize = 10_000;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub name: String,
    /// Version of the format.
    pub version: String,
    pub layers: Vec<Layer>,
    pub edges: Vec<Edge>,
}

/// One `layer` element.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub id: String,
    pub name: String,
    pub kind: String,
    /// The operator set, `opset1`.
    pub version: String,
    /// Names of a `Result`'s tensor.
    pub output_names: Vec<String>,
    /// Attributes of the element `data`.
    pub data: BTreeMap<String, String>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Whether it holds another graph.
    pub has_body: bool,
}

/// One `port` element.
#[derive(Debug, Default)]
pub(super) struct Port {
    pub id: String,
    /// Names of the tensor.
    pub names: Vec<String>,
    /// Extents of the tensor; none where one is open.
    pub dims: Vec<Option<usize>>,
}

/// One `edge` element.
#[derive(Debug)]
pub(super) struct Edge {
    pub from: (String, String),
    pub to: (String, String),
}

impl Layer {
    fn ports(&mut self, output: bool) -> &mut Vec<Port> {
        if output {
            &mut self.outputs
        } else {
            &mut self.inputs
        }
    }
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Document,
    Net,
    Layers,
    Layer,
    Inputs,
    Outputs,
    /// In a port of the last layer's, of its outputs or its inputs.
    Port(bool),
    Dim(bool),
    Edges,
    /// Inside an element of no interest, so many levels deep.
    Beside(usize),
}

/// Reads a document.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Outcome<Net> {
    let most = limits.nodes.saturating_mul(LAYERS_PER_NODE);
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().trim_text(true);
    let mut net = Net::default();
    // Where to return to, for each element that is open and of interest.
    let mut path = vec![At::Document];
    let mut seen = false;
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                return malformed(format!(
                    "it is no XML at byte {}: {error}",
                    reader.error_position()
                ));
            }
        };
        match event {
            Event::Start(element) => {
                let at = path.last().copied().unwrap_or(At::Document);
                let next = open(at, &element, &mut net, most)?;
                seen |= next == At::Net;
                match (at, next) {
                    (At::Beside(_), At::Beside(depth)) if path.len() + depth > limits.depth => {
                        return malformed(format!(
                            "its elements are nested deeper than {} ({})",
                            limits.depth,
                            Limits::DEPTH
                        ));
                    }
                    // A level deeper beside the path.
                    (At::Beside(_), next) => path.splice(path.len() - 1.., [next]).for_each(drop),
                    (_, next) => path.push(next),
                }
            }
            Event::Empty(element) => {
                let at = path.last().copied().unwrap_or(At::Document);
                seen |= open(at, &element, &mut net, most)? == At::Net;
            }
            Event::End(_) => match path.last_mut() {
                Some(At::Beside(depth)) if *depth > 1 => *depth -= 1,
                _ => {
                    path.pop();
                }
            },
            Event::Text(text) => {
                if let Some(&At::Dim(output)) = path.last() {
                    dim(&text, output, &mut net, limits)?;
                }
            }
            Event::DocType(_) => {
                return malformed("it declares a document type, which no IR has");
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !seen {
        return malformed("it has no element 'net': no OpenVINO IR");
    }
    if path.len() > 1 {
        return malformed("it ends within an element: truncated");
    }
    Ok(net)
}

/// Takes note of an element, and says where its contents lie.
fn open(at: At, element: &BytesStart, net: &mut Net, most: usize) -> Outcome<At> {
    let local = element.local_name();
    let name = local.as_ref();
    Ok(match (at, name) {
        (At::Document, b"net") => {
            let mut list = attributes(element)?;
            net.name = list.remove("name").unwrap_or_default();
            net.version = list.remove("version").unwrap_or_default();
            At::Net
        }
        (At::Net, b"layers") => At::Layers,
        (At::Net, b"edges") => At::Edges,
        (At::Layers, b"layer") => {
            if net.layers.len() >= most {
                return malformed(format!(
                    "it has more layers than {most}, the limit (--max-nodes)"
                ));
            }
            net.layers.push(layer(element)?);
            At::Layer
        }
        (At::Layer, b"data") => {
            let list = attributes(element)?;
            if let Some(layer) = net.layers.last_mut() {
                layer.data = list;
            }
            At::Beside(1)
        }
        (At::Layer, b"input") => At::Inputs,
        (At::Layer, b"output") => At::Outputs,
        (At::Layer, b"body" | b"then_body" | b"else_body") => {
            if let Some(layer) = net.layers.last_mut() {
                layer.has_body = true;
            }
            At::Beside(1)
        }
        (At::Inputs | At::Outputs, b"port") => {
            let port = port(element)?;
            let output = at == At::Outputs;
            if let Some(layer) = net.layers.last_mut() {
                let ports = layer.ports(output);
                if ports.len() >= PORTS {
                    return malformed(format!(
                        "layer '{}' has more than {PORTS} ports",
                        shown(&layer.name)
                    ));
                }
                ports.push(port);
            }
            At::Port(output)
        }
        (At::Port(output), b"dim") => At::Dim(output),
        (At::Edges, b"edge") => {
            if net.edges.len() >= most.saturating_mul(8) {
                return malformed("it has more edges than the limit (--max-nodes)");
            }
            net.edges.push(edge(element)?);
            At::Beside(1)
        }
        (At::Beside(depth), _) => At::Beside(depth + 1),
        _ => At::Beside(1),
    })
}

/// An extent of the last port.
fn dim(text: &[u8], output: bool, net: &mut Net, limits: &Limits) -> Outcome<()> {
    let text = String::from_utf8_lossy(text.trim_ascii());
    let Some(port) = net
        .layers
        .last_mut()
        .and_then(|l| l.ports(output).last_mut())
    else {
        return Ok(());
    };
    if port.dims.len() >= limits.rank {
        return malformed(format!(
            "a port has more than {} axes, the limit ({})",
            limits.rank,
            Limits::RANK
        ));
    }
    // -1, or a range, where it is open.
    port.dims.push(text.parse().ok());
    Ok(())
}

/// All attributes of an element.
fn attributes(element: &BytesStart) -> Outcome<BTreeMap<String, String>> {
    let mut list = BTreeMap::new();
    // Repeated names are checked here: the reader's own check takes quadratic time.
    for attribute in element.attributes().with_checks(false) {
        let (key, value) = match attribute {
            Ok(attribute) => (attribute.key, attribute.unescape_value()),
            Err(error) => return malformed(format!("an attribute is damaged: {error}")),
        };
        let Ok(key) = std::str::from_utf8(key.as_ref()) else {
            return malformed("the name of an attribute is no text");
        };
        let value = match value {
            Ok(value) => value.into_owned(),
            Err(error) => {
                return malformed(format!("attribute '{}' is damaged: {error}", shown(key)));
            }
        };
        if list.insert(key.to_owned(), value).is_some() {
            return malformed(format!("attribute '{}' is given twice", shown(key)));
        }
        if list.len() > ATTRIBUTES {
            return malformed(format!("an element has more than {ATTRIBUTES} attributes"));
        }
    }
    Ok(list)
}

fn needed(list: &mut BTreeMap<String, String>, element: &str, key: &str) -> Outcome<String> {
    match list.remove(key) {
        Some(value) => Ok(value),
        None => malformed(format!("an element '{element}' has no attribute '{key}'")),
    }
}

fn layer(element: &BytesStart) -> Outcome<Layer> {
    let mut list = attributes(element)?;
    Ok(Layer {
        id: needed(&mut list, "layer", "id")?,
        kind: needed(&mut list, "layer", "type")?,
        name: list.remove("name").unwrap_or_default(),
        version: list.remove("version").unwrap_or_default(),
        output_names: names(&list.remove("output_names").unwrap_or_default()),
        ..Layer::default()
    })
}

fn port(element: &BytesStart) -> Outcome<Port> {
    let mut list = attributes(element)?;
    Ok(Port {
        id: needed(&mut list, "port", "id")?,
        names: names(&list.remove("names").unwrap_or_default()),
        dims: Vec::new(),
    })
}

fn edge(element: &BytesStart) -> Outcome<Edge> {
    let mut list = attributes(element)?;
    let mut end = |layer: &str, port: &str| {
        Ok((
            needed(&mut list, "edge", layer)?,
            needed(&mut list, "edge", port)?,
        ))
    };
    Ok(Edge {
        from: end("from-layer", "from-port")?,
        to: end("to-layer", "to-port")?,
    })
}

/// A list of names; a comma inside of one has a backslash (openvinotoolkit/openvino
/// `src/core/xml_util/src/xml_deserialize_util.cpp`).
fn names(list: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = list.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, characters.peek()) {
            ('\\', Some(',')) => {
                characters.next();
                if let Some(name) = names.last_mut() {
                    name.push(',');
                }
            }
            (',', _) => names.push(String::new()),
            (c, _) => {
                if let Some(name) = names.last_mut() {
                    name.push(c);
                }
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}
