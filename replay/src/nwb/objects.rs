//! The objects that every NWB file consists of: the root, tables with their columns, time series. The layouts of whole files are
//! in [`super::writing`] and [`super::decoded`].
//!
//! Object ids are drawn from a seed that follows from the file's identifier, so that **equal contents give equal files**.

use crate::h5::{Dataset, Group, H5Error};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Version of the NWB standard that the layouts follow; pynwb also reads it with any later version.
const NWB_VERSION: &str = "2.7.0";

/// Path of the table of electrodes.
pub(super) const ELECTRODES: &str = "/general/extracellular_ephys/electrodes";
const ARRAY: &str = "/general/extracellular_ephys/array";
const DEVICE: &str = "/general/devices/electrode_array";

/// The texts of a file's root. Dates are in the form of ISO 8601.
pub(super) struct RootText<'a> {
    pub(super) identifier: &'a str,
    pub(super) description: &'a str,
    pub(super) session_start: &'a str,
    /// When the times in the file are 0.
    pub(super) reference: &'a str,
    /// When the file was written.
    pub(super) created: &'a str,
}

/// What a time series says of its values.
pub(super) struct SeriesText<'a> {
    pub(super) description: &'a str,
    pub(super) comments: &'a str,
    pub(super) unit: &'a str,
    /// Factor from the stored values to the unit.
    pub(super) conversion: f64,
}

/// Writes objects into one file, and draws their ids.
pub(super) struct Objects {
    ids: ChaCha8Rng,
}

impl Objects {
    /// The objects of a file with this identifier.
    pub(super) fn of(identifier: &str) -> Objects {
        // FNV-1a: any fixed function of the identifier would do.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let seed = identifier.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        Objects { ids: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Writes what the standard demands of every file's root.
    pub(super) fn root(&mut self, root: &Group, text: &RootText<'_>) -> Result<(), H5Error> {
        root.set_text("nwb_version", NWB_VERSION)?;
        self.typed(root, "core", "NWBFile")?;
        root.write_text("identifier", text.identifier)?;
        root.write_text("session_description", text.description)?;
        root.write_text("session_start_time", text.session_start)?;
        root.write_text("timestamps_reference_time", text.reference)?;
        root.write_texts("file_create_date", &[text.created])?;
        for group in ["acquisition", "analysis", "general", "stimulus"] {
            root.create_group(group)?;
        }
        root.create_group("stimulus/presentation")?;
        root.create_group("stimulus/templates")?;
        Ok(())
    }

    /// Writes one array with an electrode for each of these ids. The unit table's column `electrodes` refers to their table, and the
    /// columns of counts are in its order.
    pub(super) fn electrodes(&mut self, root: &Group, ids: &[i64], location: &str) -> Result<(), H5Error> {
        let device = root.create_group(DEVICE)?;
        self.typed(&device, "core", "Device")?;
        device.set_text("description", "intracortical electrode array")?;
        let array = root.create_group(ARRAY)?;
        self.typed(&array, "core", "ElectrodeGroup")?;
        array.set_text("description", "electrodes of the implanted array")?;
        array.set_text("location", location)?;
        array.link("device", DEVICE)?;

        let table = root.create_group(ELECTRODES)?;
        let rows = ids.len();
        self.table(&table, "hdmf-common", "DynamicTable", "the array's electrodes")?;
        table.set_texts("colnames", &["location", "group", "group_name"])?;
        self.row_ids(&table, ids)?;
        self.column(table.write_texts("location", &vec![location; rows])?, "where the electrode is")?;
        self.column(table.write_references("group", &vec![ARRAY; rows])?, "the electrode's group")?;
        self.column(table.write_texts("group_name", &vec!["array"; rows])?, "name of the electrode's group")
    }

    /// Completes a group in which the values `data` lie, so that it is a time series of them.
    pub(super) fn time_series(
        &mut self,
        group: &Group,
        data: &Dataset,
        text: &SeriesText<'_>,
        timestamps: &[f64],
    ) -> Result<(), H5Error> {
        self.typed(group, "core", "TimeSeries")?;
        group.set_text("description", text.description)?;
        group.set_text("comments", text.comments)?;
        data.set_number("conversion", text.conversion)?;
        data.set_number("offset", 0.0)?;
        data.set_number("resolution", -1.0)?;
        data.set_text("unit", text.unit)?;
        let times = group.write("timestamps", timestamps, &[timestamps.len()])?;
        times.set_number("interval", 1i64)?;
        times.set_text("unit", "seconds")
    }

    pub(super) fn table(
        &mut self,
        group: &Group,
        namespace: &str,
        kind: &str,
        description: &str,
    ) -> Result<(), H5Error> {
        self.typed(group, namespace, kind)?;
        group.set_text("description", description)
    }

    pub(super) fn typed(&mut self, group: &Group, namespace: &str, kind: &str) -> Result<(), H5Error> {
        group.set_text("namespace", namespace)?;
        group.set_text("neurodata_type", kind)?;
        group.set_text("object_id", &self.object_id())
    }

    pub(super) fn row_ids(&mut self, table: &Group, ids: &[i64]) -> Result<(), H5Error> {
        let column = table.write("id", ids, &[ids.len()])?;
        self.tagged(&column, "ElementIdentifiers")
    }

    pub(super) fn column(&mut self, column: Dataset, description: &str) -> Result<(), H5Error> {
        self.described(&column, "VectorData", description)
    }

    /// Writes the index column of a ragged column: the exclusive end of each row.
    pub(super) fn index(&mut self, table: &Group, target: &str, ends: &[u64]) -> Result<(), H5Error> {
        let column = table.write(&format!("{target}_index"), ends, &[ends.len()])?;
        column.set_reference("target", &format!("{}/{target}", table.name()))?;
        self.described(&column, "VectorIndex", &format!("Index for VectorData '{target}'"))
    }

    pub(super) fn described(
        &mut self,
        column: &Dataset,
        kind: &str,
        description: &str,
    ) -> Result<(), H5Error> {
        column.set_text("description", description)?;
        self.tagged(column, kind)
    }

    fn tagged(&mut self, column: &Dataset, kind: &str) -> Result<(), H5Error> {
        column.set_text("namespace", "hdmf-common")?;
        column.set_text("neurodata_type", kind)?;
        column.set_text("object_id", &self.object_id())
    }

    /// Draws the next object id, in the form of a random (version 4) UUID.
    fn object_id(&mut self) -> String {
        let low = u128::from(self.ids.next_u64());
        let random = u128::from(self.ids.next_u64()) << 64 | low;
        let id = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{id:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
