"""The layouts of a file of recordings that `benchmarks.scaling.storage` compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from policy.trajectories import OPTIONS, SCHEMA


@dataclass(frozen=True)
class Variant:
    """A layout, by its differences from the chosen one."""

    words: str
    options: dict[str, Any] = field(default_factory=dict)
    schema: pa.Schema = SCHEMA
    together: bool = False  # all tasks in one file, in row groups of
    groups: bool = True  # one task each, or else in a single one

    def encode(self, tables: Sequence[pa.Table]) -> list[bytes]:
        """The content of every file."""
        if not self.together:
            return [self._file([table]) for table in tables]
        return [self._file(tables if self.groups else [pa.concat_tables(tables)])]

    def _file(self, groups: Sequence[pa.Table]) -> bytes:
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, self.schema, **(OPTIONS | self.options)) as writer:
            for table in groups:
                writer.write_table(table.cast(self.schema))
            writer.add_key_value_metadata(SCHEMA.metadata)
        return sink.getvalue().to_pybytes()


def typed(types: Mapping[str, pa.DataType]) -> pa.Schema:
    return pa.schema([f.with_type(types.get(f.name, f.type)) for f in SCHEMA])


NARROW = {"n_steps": pa.int32(), "step": pa.int32(), "decision": pa.int16(), "probe_used": pa.int16()}
OLD = {"use_dictionary": True, "column_encoding": None, "write_statistics": True, "store_schema": True}
DELTA = {
    "use_dictionary": [name for name in OPTIONS["use_dictionary"] if name not in ("decision", "step")],
    "column_encoding": OPTIONS["column_encoding"] | dict.fromkeys(("decision", "step"), "DELTA_BINARY_PACKED"),
}
VARIANTS = {
    "chosen": Variant("**chosen**: a file per task; floats byte by byte, a dictionary for the rest; lz4"),
    "default": Variant("pyarrow's defaults, with zstd and checksums", OLD | {"compression": "zstd"}),
    "dictionary": Variant("a dictionary for all columns", {"use_dictionary": True, "column_encoding": None}),
    "plain": Variant("floats plain", {"column_encoding": None}),
    "delta": Variant("decision and step as packed differences", DELTA),
    "integers": Variant("integers of 32 and 16 bits", schema=typed(NARROW)),
    "progress": Variant("progress as float32", schema=typed({"progress": pa.float32()})),
    "none": Variant("not compressed", {"compression": "none"}),
    "snappy": Variant("snappy", {"compression": "snappy"}),
    "lz4_9": Variant("lz4, level 9", {"compression_level": 9}),
    "zstd_1": Variant("zstd, level 1", {"compression": "zstd", "compression_level": 1}),
    "zstd_3": Variant("zstd, level 3", {"compression": "zstd", "compression_level": 3}),
    "zstd_9": Variant("zstd, level 9", {"compression": "zstd", "compression_level": 9}),
    "statistics": Variant("with statistics", {"write_statistics": True}),
    "schema": Variant("with Arrow's schema", {"store_schema": True}),
    "unchecked": Variant("without page checksums", {"write_page_checksum": False}),
    "groups": Variant("all tasks in one file, a row group each", together=True),
    "together": Variant("all tasks in one file, in one row group", together=True, groups=False),
    "together_zstd": Variant(
        "the same with zstd, level 1", {"compression": "zstd", "compression_level": 1}, together=True, groups=False
    ),
}
