//! Properties of the graphs that can be checked without running them. `trainer/tests/onnx_graphs.rs` runs them and
//! checks that they compute the model.

use super::graph::{IR_VERSION, OPSET};
use super::messages::{BOOL, Dimension, FLOAT, GraphProto, INT64, ModelProto, ValueInfoProto};
use super::{GraphShape, step_graph, window_graph};
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::tensors::Tensors;
use prost::Message;
use std::collections::BTreeSet;

const METADATA: [(&str, &str); 2] = [("format-version", "1"), ("zebra-before-ant", "kept in order")];

fn shape(positions: Positions, velocity_dims: usize) -> GraphShape {
    let architecture =
        Architecture { width: 6, layers: 2, heads: 3, feedforward: 5, window_bins: 4, positions };
    GraphShape {
        architecture,
        channels: 7,
        units: 8,
        readout_dims: velocity_dims,
        velocity: 0..velocity_dims,
    }
}

/// Weights 0, 1, 2, ... in the shapes that the graphs ask for.
fn weights(shape: &GraphShape) -> Tensors {
    let Architecture { width, layers, heads, feedforward, window_bins, positions } = shape.architecture;
    let mut weights = Tensors::new();
    let mut add = |name: String, dims: &[usize]| {
        let values = (0..dims.iter().product()).map(|at: usize| at as f32).collect();
        weights.insert(name, (dims.to_vec(), values));
    };
    let mut add_linear = |name: String, from, to| {
        add(format!("{name}.weight"), &[from, to]);
        add(format!("{name}.bias"), &[to]);
    };
    add_linear("readin".to_owned(), shape.channels, width);
    add_linear("rates".to_owned(), width, shape.units);
    if shape.readout_dims > 0 {
        add_linear("readouts".to_owned(), width, shape.readout_dims);
    }
    for layer in 0..layers {
        for part in ["query", "key", "value", "output"] {
            add_linear(format!("layer.{layer}.attention.{part}"), width, width);
        }
        add_linear(format!("layer.{layer}.feedforward.up"), width, feedforward);
        add_linear(format!("layer.{layer}.feedforward.down"), feedforward, width);
    }
    let norms =
        (0..layers).flat_map(|layer| [format!("layer.{layer}.norm1"), format!("layer.{layer}.norm2")]);
    for norm in norms.chain(["norm".to_owned()]) {
        add(format!("{norm}.weight"), &[width]);
        add(format!("{norm}.bias"), &[width]);
    }
    add("missing".to_owned(), &[width]);
    match positions {
        Positions::Learned => add("position".to_owned(), &[window_bins, width]),
        Positions::LagBias => (0..layers)
            .for_each(|layer| add(format!("layer.{layer}.attention.lag_bias"), &[heads, window_bins])),
    }
    weights
}

fn decode(bytes: &[u8]) -> GraphProto {
    let model = ModelProto::decode(bytes).unwrap();
    assert_eq!(model.ir_version, IR_VERSION);
    assert_eq!(model.opset_import.len(), 1);
    assert_eq!((model.opset_import[0].domain.as_str(), model.opset_import[0].version), ("", OPSET));
    let metadata: Vec<_> = model.metadata_props.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
    assert_eq!(metadata, METADATA);
    model.graph.unwrap()
}

/// Describes graph inputs or outputs as text: `name:element:dims name:element:dims ...`
fn describe(values: &[ValueInfoProto]) -> String {
    let kind = |value: &ValueInfoProto| {
        let tensor = value.kind.clone().unwrap().tensor_type.unwrap();
        let element = match tensor.elem_type {
            FLOAT => "f32",
            INT64 => "i64",
            BOOL => "bool",
            other => panic!("element {other}"),
        };
        let shape = tensor.shape.unwrap();
        let dim = |dim: Option<Dimension>| match dim.unwrap() {
            Dimension::Fixed(fixed) => fixed.to_string(),
            Dimension::Named(name) => name,
        };
        let dims = shape.dim.into_iter().map(|d| dim(d.value)).collect::<Vec<_>>().join(",");
        format!("{element}:{dims}")
    };
    values.iter().map(|value| format!("{}:{}", value.name, kind(value))).collect::<Vec<_>>().join(" ")
}

fn check(bytes: &[u8], inputs: &str, outputs: &str) {
    let graph = decode(bytes);
    assert_eq!(describe(&graph.input), inputs);
    assert_eq!(describe(&graph.output), outputs);
}

#[test]
fn inputs_and_outputs_are_the_documented_ones() {
    let window_inputs = "counts:f32:batch,bins,7 missing:f32:batch,bins";
    let window_outputs = "log_rates:f32:batch,bins,8 rates:f32:batch,bins,8";
    let step_outputs = "log_rates:f32:1,8 rates:f32:1,8";
    for positions in [Positions::LagBias, Positions::Learned] {
        let (memory, next) = match positions {
            Positions::LagBias => (
                "keys.0:f32:1,4,6 values.0:f32:1,4,6 keys.1:f32:1,4,6 values.1:f32:1,4,6",
                "keys.0_next:f32:1,4,6 values.0_next:f32:1,4,6 keys.1_next:f32:1,4,6 values.1_next:f32:1,4,6",
            ),
            Positions::Learned => (
                "window_counts:f32:4,7 window_missing:bool:4",
                "window_counts_next:f32:4,7 window_missing_next:bool:4",
            ),
        };
        for (dims, window_velocity, step_velocity) in
            [(0, "", ""), (2, " velocity:f32:batch,bins,2", " velocity:f32:1,2")]
        {
            let shape = shape(positions, dims);
            let weights = weights(&shape);
            let outputs = format!("{window_outputs}{window_velocity}");
            check(&window_graph(&shape, &weights, &METADATA), window_inputs, &outputs);
            let inputs = format!("counts:f32:1,7 missing:bool:1 slot:i64:1,1 lags:i64:4 {memory}");
            let outputs = format!("{step_outputs}{step_velocity} {next}");
            check(&step_graph(&shape, &weights, &METADATA), &inputs, &outputs);
        }
    }
}

#[test]
fn every_value_is_used_and_every_weight_stored_once() {
    for positions in [Positions::LagBias, Positions::Learned] {
        let shape = shape(positions, 2);
        let weights = weights(&shape);
        for bytes in [window_graph(&shape, &weights, &METADATA), step_graph(&shape, &weights, &METADATA)] {
            let graph = decode(&bytes);
            let mut used: BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
            used.extend(graph.output.iter().map(|value| &value.name));
            let made = graph.node.iter().flat_map(|node| &node.output);
            let stored = graph.initializer.iter().map(|tensor| &tensor.name);
            for name in made.chain(stored).chain(graph.input.iter().map(|value| &value.name)) {
                assert!(used.contains(name), "{name} is used by nobody");
            }
            let largest: usize = weights.values().map(|(_, values)| 4 * values.len()).sum();
            let bytes: usize = graph.initializer.iter().map(|tensor| tensor.raw_data.len()).sum();
            assert!(
                (largest..largest + 512).contains(&bytes),
                "expected about {largest} bytes, found {bytes}"
            );
        }
    }
}

#[test]
fn the_graph_holds_the_columns_of_the_published_velocity_alone() {
    let shape = GraphShape { readout_dims: 5, velocity: 3..5, ..shape(Positions::LagBias, 2) };
    let graph = decode(&window_graph(&shape, &weights(&shape), &METADATA));
    let stored = |name: &str| {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        let (values, _) = tensor.raw_data.as_chunks::<4>();
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
    };
    assert_eq!(stored("velocity.bias"), [3.0, 4.0]);
    let rows = (0..6).flat_map(|row| [5.0 * row as f32 + 3.0, 5.0 * row as f32 + 4.0]);
    assert_eq!(stored("velocity.weight"), rows.collect::<Vec<f32>>());
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    for positions in [Positions::LagBias, Positions::Learned] {
        let shape = shape(positions, 2);
        let weights = weights(&shape);
        let write = || (window_graph(&shape, &weights, &METADATA), step_graph(&shape, &weights, &METADATA));
        assert_eq!(write(), write());
    }
}

#[test]
#[should_panic(expected = "expected weight \"readin.weight\" of shape [7, 6], found [6, 7]")]
fn a_transposed_weight_is_our_mistake() {
    let shape = shape(Positions::LagBias, 0);
    let mut weights = weights(&shape);
    weights.insert("readin.weight".to_owned(), (vec![6, 7], vec![0.0; 42]));
    window_graph(&shape, &weights, &METADATA);
}
