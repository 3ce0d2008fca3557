//! A graph under construction: nodes, stored arrays, inputs and outputs.
//!
//! A value has the name of the node that makes it, so that a profile of ONNX Runtime reads like the model. Every name
//! is made once (asserted), every array is stored once, and everything is written in the order of the calls: the same
//! calls give the same bytes.

use super::messages::{
    ATTRIBUTE_FLOAT, ATTRIBUTE_INT, AttributeProto, Dimension, DimensionProto, FLOAT, GraphProto, INT64,
    ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use ndt_protocol::bundle::tensors::Tensors;
use prost::Message;
use std::collections::BTreeSet;

/// The version of the ONNX file format that belongs to [`OPSET`].
pub(super) const IR_VERSION: i64 = 11;
/// The version of the operators: the first one with `Attention`, of which one node replaces eight. ONNX Runtime reads it from version
/// 1.23 on, which the daemon requires.
pub(super) const OPSET: i64 = 23;

/// A constant attribute of an operator.
pub(super) enum Attribute {
    Int(&'static str, i64),
    Float(&'static str, f32),
}

/// A graph under construction.
pub(super) struct Graph<'a> {
    weights: &'a Tensors,
    names: BTreeSet<String>,
    graph: GraphProto,
}

impl<'a> Graph<'a> {
    /// An empty graph that takes its weights from `weights`.
    pub(super) fn new(name: &str, weights: &'a Tensors) -> Self {
        let graph = GraphProto { name: name.to_owned(), ..GraphProto::default() };
        Graph { weights, names: BTreeSet::new(), graph }
    }

    /// Declares an input of `element`s ([`FLOAT`], [`INT64`], [`super::messages::BOOL`]).
    pub(super) fn input(&mut self, name: &str, element: i32, dims: &[Dimension]) -> String {
        self.claim(name);
        self.graph.input.push(declared(name, element, dims));
        name.to_owned()
    }

    /// Declares the value `name`, which a node must have made, as an output of `element`s.
    pub(super) fn output(&mut self, name: &str, element: i32, dims: &[Dimension]) {
        assert!(self.names.contains(name), "output {name} is made by no node");
        self.graph.output.push(declared(name, element, dims));
    }

    /// Adds a node that applies `operator` to `inputs`; its one result is named `name`.
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[Attribute],
    ) -> String {
        for input in inputs {
            assert!(self.names.contains(*input), "node {name} uses {input} before it is made");
        }
        self.claim(name);
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(encode_attribute).collect(),
        });
        name.to_owned()
    }

    /// The values of a weight, whose shape must be `shape`.
    pub(super) fn weight_values(&self, name: &str, shape: &[usize]) -> &'a [f32] {
        let Some((found, values)) = self.weights.get(name) else {
            panic!("expected a weight \"{name}\" of shape {shape:?}, found none");
        };
        assert!(found == shape, "expected weight \"{name}\" of shape {shape:?}, found {found:?}");
        values
    }

    /// Stores a weight under its own name.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize]) -> String {
        let values = self.weight_values(name, shape);
        self.floats(name, shape, values)
    }

    /// Stores an f32 array, row-major.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let expected: usize = shape.iter().product();
        assert!(values.len() == expected, "expected {expected} values in {name}, found {}", values.len());
        let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        self.store(name, FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Stores an f32 scalar.
    pub(super) fn float(&mut self, value: f32) -> String {
        let name = format!("float.{value:e}");
        if self.names.contains(&name) { name } else { self.floats(&name, &[], &[value]) }
    }

    /// Stores an int64 scalar.
    pub(super) fn integer(&mut self, value: i64) -> String {
        self.integer_array(format!("integer.{value}"), vec![], &[value])
    }

    /// Stores an int64 vector.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let digits: Vec<String> = values.iter().map(i64::to_string).collect();
        self.integer_array(format!("integers.{}", digits.join(".")), vec![values.len() as i64], values)
    }

    /// The bytes of the finished file, with this metadata.
    pub(super) fn encode(self, metadata: &[(&str, &str)]) -> Vec<u8> {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "ndt-train".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: metadata.iter().map(entry).collect(),
        };
        model.encode_to_vec()
    }

    /// Stores an int64 array. Constants are named by their value, so that equal ones are stored once.
    fn integer_array(&mut self, name: String, dims: Vec<i64>, values: &[i64]) -> String {
        if self.names.contains(&name) {
            return name;
        }
        self.store(&name, INT64, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn store(&mut self, name: &str, data_type: i32, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        self.claim(name);
        self.graph.initializer.push(TensorProto { dims, data_type, name: name.to_owned(), raw_data });
        name.to_owned()
    }

    fn claim(&mut self, name: &str) {
        assert!(self.names.insert(name.to_owned()), "value {name} is made twice");
    }
}

/// Dimensions that are the same in every run.
pub(super) fn fixed(dims: &[usize]) -> Vec<Dimension> {
    dims.iter().map(|&dim| Dimension::Fixed(dim as i64)).collect()
}

fn encode_attribute(attribute: &Attribute) -> AttributeProto {
    let empty = AttributeProto::default();
    match *attribute {
        Attribute::Int(name, i) => AttributeProto { name: name.to_owned(), i, kind: ATTRIBUTE_INT, ..empty },
        Attribute::Float(name, f) => {
            AttributeProto { name: name.to_owned(), f, kind: ATTRIBUTE_FLOAT, ..empty }
        }
    }
}

fn declared(name: &str, element: i32, dims: &[Dimension]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| DimensionProto { value: Some(dim.clone()) }).collect();
    let tensor = TensorTypeProto { elem_type: element, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor_type: Some(tensor) }) }
}
