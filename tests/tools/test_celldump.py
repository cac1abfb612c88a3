"""celldump on whole files, on the golden files and on what its command line takes."""
import importlib.util
import json
import os
import struct

from toolset import (CORRUPT, DONE, MAX_INDEX, RECOVERABLE, SHARED, SYSTEM, Store, ToolTest, content, footer_bytes,
                     goldens, main, run, slot_bytes, splitmix_bytes, start_index)

# Golden files that are not clean, by name; the exit code goes with the state.
STATES = {
    "unflushed": """crash-commit-root-only crash-commit-same-root crash-flush-commit-write crash-never-flushed
        crash-reopened-crash crash-root-back crash-root-none size-more slot-key-p1 slot-keyhash torn-process""",
    "recoverable": "disk-newer slot-d1 slot-d2 slot-p1 slot-p1p2 slot-p2 torn-disk-half torn-process-half",
    "corrupt": """config-bpc-3 config-bpc-65536 config-maxindex-0 config-maxindex-100 limit-create-over size-0 size-10
        size-96 size-cut size-cut-256 size-odd slot-d1d2""",
}
EXIT_CODES = {"clean": DONE, "unflushed": DONE, "recoverable": RECOVERABLE, "corrupt": CORRUPT}
# Whole slots of a pair that differ: told, and no more.
TOLD = ("torn-disk", "torn-process")


def state_of(name):
    for state, names in STATES.items():
        if name in names.split():
            return state
    return "clean"


class GoldenFiles(ToolTest):
    """Every golden file: what celldump says is what the original found."""

    def setUp(self):
        super().setUp()
        self.goldens = goldens()
        self.assertGreaterEqual(len(self.goldens), 52)

    def slots_of(self, info):
        return info["disk_sync"] + info["process_sync"]

    def check_slots(self, golden, info):
        expected = golden.expect["slots"]
        verdicts = {"GoodKey": "good", "BadKey": "bad"}
        for i, (slot, want) in enumerate(zip(self.slots_of(info), expected)):
            raw = bytes.fromhex(want["raw"])
            self.assertEqual(slot["valid"], want["valid"])
            self.assertEqual(slot["next_index"], int.from_bytes(raw[28:32], "little"))
            self.assertEqual(slot["root_index"], int.from_bytes(raw[24:28], "little") or None)
            self.assertEqual("key" in slot, i >= 2)
            if i >= 2:
                self.assertEqual(slot["key"], verdicts[want["key"]] if want["valid"] else "unknown")

    def check_header(self, golden, info):
        header = bytes.fromhex(golden.expect["file"]["header256"])
        self.assertEqual(info["file_bytes"], golden.expect["file"]["size"])
        self.assertEqual(info["head_string"], header[:20].hex() if len(header) >= 20 else None)
        for name, at in (("bytes_per_cell", 20), ("max_index", 24), ("version", 28)):
            want = int.from_bytes(header[at:at + 4], "little") if len(header) >= at + 4 else None
            self.assertEqual(info[name], want, name)
        bytes_per_cell = info["bytes_per_cell"]
        if bytes_per_cell is not None and 4 <= bytes_per_cell <= 65535:
            self.assertEqual(info["start_index"], start_index(bytes_per_cell))
            self.assertEqual(info["cells"], info["file_bytes"] // bytes_per_cell)
        else:
            self.assertIsNone(info["start_index"])
            self.assertIsNone(info["cells"])

    def test_info(self):
        for golden in self.goldens:
            with self.subTest(golden.path):
                state = state_of(golden.name)
                info = self.info(golden.path, "--key", golden.key, code=EXIT_CODES[state])
                self.assertEqual(info["state"], state)
                self.check_header(golden, info)
                if golden.expect.get("slots"):
                    self.check_slots(golden, info)
                told = state in ("recoverable", "corrupt") or golden.name in TOLD
                self.assertEqual(bool(info["problems"]), told, info["problems"])

    def test_what_a_reader_sees(self):
        for golden in self.goldens:
            opened = golden.expect["reader_open"].get("ok")
            if opened is None:
                continue
            with self.subTest(golden.path):
                info = self.info(golden.path, code=EXIT_CODES[state_of(golden.name)])
                self.assertEqual(info["next_index"], opened["state"]["current_length"])
                self.assertEqual(info["root_index"], opened["state"]["last_root_index"])
                self.assertEqual(info["start_index"], opened["state"]["start_index"])
                self.assertTrue(all(slot["key"] == "unknown" for slot in info["process_sync"]))

    def test_every_command_has_the_same_exit_code(self):
        for golden in self.goldens:
            before = golden.bytes(), os.stat(golden.path).st_mtime_ns
            state = state_of(golden.name)
            with self.subTest(golden.path):
                self.expect(EXIT_CODES[state], "celldump", "info", golden.path)
                self.expect(EXIT_CODES[state], "celldump", "header", golden.path)
                checked = self.expect(EXIT_CODES[state], "celldump", "check", golden.path, "--json")
                self.assertEqual(json.loads(checked.stdout)["state"], state)
                cells = self.info(golden.path, code=EXIT_CODES[state])["cells"]
                if cells:
                    self.expect(EXIT_CODES[state], "celldump", "cell", golden.path, cells - 1)
                self.assertEqual(before, (golden.bytes(), os.stat(golden.path).st_mtime_ns))

    def test_chunks(self):
        """Every value that the original wrote and that is in the file, byte for byte."""
        for golden in self.goldens:
            if not golden.name.endswith("-clean"):
                continue
            written = [op for op in golden.ops() if op["op"] == "chunk_write" and "ok" in op["result"]]
            self.assertTrue(written)
            for op in written:
                index = op["result"]["ok"]["last_index"]
                done = self.expect(DONE, "celldump", "chunk", golden.path, index, "--raw")
                self.assertEqual(done.stdout, splitmix_bytes(op["seed"], op["len"]), (golden.path, index))

    def test_problems_name_file_offset_and_what_was_expected(self):
        for golden in self.goldens:
            if state_of(golden.name) not in ("recoverable", "corrupt"):
                continue
            for command in ("info", "header", "check"):
                done = run("celldump", command, golden.path)
                for line in done.stderr.decode().splitlines():
                    self.assertRegex(line, r"^celldump: .*%s\.db: offset \d+: found .*, expected " % golden.name)
                self.assertTrue(done.stderr, (golden.path, command))


class Oracle(ToolTest):
    """The independent reader in the shared folder, where it is there, on files made at random."""

    def test_same_as_the_oracle(self):
        path = os.path.join(SHARED, "oracle", "plebeia_oracle.py")
        if not os.path.exists(path):
            self.skipTest("no oracle here")
        spec = importlib.util.spec_from_file_location("plebeia_oracle", path)
        oracle = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(oracle)
        for i, bytes_per_cell in enumerate((4, 5, 6, 7, 31, 32, 100, 255, 256, 257, 4096, 65535)):
            config = oracle.Config(b"%-20d" % i, bytes_per_cell, 300000, i)
            key = content(i, 32)
            writer = oracle.Writer.create(config, key, 1 << 17)
            values = {}
            for size in (0, 1, 5, 65535, 65536, 140000):
                values[writer.chunk_write(content(size, size))] = content(size, size)
            writer.root = max(values)
            writer.flush()
            writer.chunk_write(b"after the flush")
            writer.commit()
            store = self.write("store", bytes(writer.data))
            info = self.info(store, "--key", key.hex())
            seen = oracle.Store(bytes(writer.data), key)
            self.assertEqual((info["next_index"], info["root_index"]), seen.current())
            self.assertEqual(info["process_sync"][0]["next_index"], seen.process.next_index)
            self.assertEqual([s["key"] for s in info["process_sync"]], ["good", "good"])
            self.assertEqual((info["start_index"], info["cells"]), (seen.start_index, seen.mapped_length))
            self.assertEqual(info["state"], "unflushed")
            for index, value in values.items():
                dumped = json.loads(self.expect(DONE, "celldump", "chunk", store, index, "--json").stdout)
                self.assertEqual(bytes.fromhex(dumped["hex"]), value)
                self.assertEqual([(c["last_index"], c["first_index"], c["size_bytes"], c["cdr"])
                                  for c in dumped["chunks"]], seen.chunk_parts(index)[::-1])


class Records(ToolTest):
    """What a power loss leaves of a checked flush: slots that are older, or broken, and a record."""

    HASH = bytes.fromhex("685769cbe39fcd63")  # of from 8, root 8, next 9 and the cell of hello

    def image(self, broken=False, flags=2, cell_bit=0, place=1):
        store = Store()
        store.value(b"hello")
        data = bytearray(store.image(disk=(8, 0), process=(9, 8)))
        struct.pack_into("<Q", data, 168, 1 << 40 | 1)  # of no boot that ever was
        struct.pack_into("<I", data, 192, flags)
        data[188 + 20 * place:208 + 20 * place] = struct.pack("<III", 8, 8, 9) + self.HASH
        data[256] ^= cell_bit
        if broken:
            data[33] ^= 1
            data[65] ^= 1
        return self.write("s", bytes(data))

    def test_record_says_what_is_flushed(self):
        for place in (1, 2):
            path = self.image(place=place)
            info = self.info(path)
            self.assertEqual(info["record"], {"number": place, "next_index": 9, "root_index": 8})
            self.assertEqual((info["next_index"], info["root_index"], info["state"]), (9, 8, "clean"))
            self.assertEqual(info["disk_sync"][0]["next_index"], 8)
            text = self.expect(DONE, "celldump", "info", path).stdout
            self.assertIn(b"record %d         holds, next 9, root 8" % place, text)
            self.assertIn(b"flushed          next 9, root 8", text)
            self.assertIn(b"record %d of a checked flush holds" % place,
                          self.expect(DONE, "celldump", "check", path).stdout)

    def test_broken_slots_beside_a_record(self):
        path = self.image(broken=True)
        info = self.info(path, code=RECOVERABLE)
        self.assertEqual((info["next_index"], info["root_index"], info["state"]), (9, 8, "recoverable"))
        self.assertIn(b"can be reached", self.expect(RECOVERABLE, "celldump", "check", path).stdout)

    def test_records_that_say_nothing(self):
        for more in ({"flags": 0}, {"cell_bit": 4}):
            info = self.info(self.image(**more))
            self.assertEqual((info["record"], info["next_index"], info["state"]), (None, 8, "unflushed"))
            self.info(self.image(broken=True, **more), code=CORRUPT)


class Words(ToolTest):
    """What a writer that publishes by the word leaves where it dies: slots that are behind."""

    def image(self, flags=16, next_index=9):
        store = Store()
        store.value(b"hello")
        data = bytearray(store.image(disk=(8, 0), process=(8, 0)))
        struct.pack_into("<II", data, 160, 8, next_index)
        struct.pack_into("<I", data, 192, flags)
        return self.write("s", bytes(data))

    def test_word_says_what_is_committed(self):
        path = self.image()
        info = self.info(path)
        self.assertEqual(info["word"], {"next_index": 9, "root_index": 8})
        self.assertEqual((info["next_index"], info["root_index"], info["state"]), (8, None, "unflushed"))
        self.assertIn(b"published word   next 9, root 8", self.expect(DONE, "celldump", "info", path).stdout)
        self.assertIn(b"the committed root 8 names", self.expect(DONE, "celldump", "check", path).stdout)

    def test_words_that_say_nothing(self):
        for more in ({"flags": 0}, {"next_index": 7}, {"next_index": 10}):  # no mark: beyond the file is no corruption
            info = self.info(self.image(**more))
            self.assertEqual((info["word"], info["next_index"], info["state"]), (None, 8, "clean"))


class Info(ToolTest):
    def test_json_fields(self):
        store = Store(key=b"k" * 32)
        root = store.value(b"hello")
        info = self.info(self.write("s", store.image(root, spare_cells=3)), "--key", (b"k" * 32).hex())
        slot = {"valid": True, "next_index": 9, "root_index": 8}
        self.assertEqual(info, {
            "head_string": b"PLEBEIA TEST        ".hex(), "bytes_per_cell": 32, "max_index": MAX_INDEX, "version": 1,
            "start_index": 8, "file_bytes": 12 * 32, "cells": 12, "disk_sync": [slot, slot],
            "process_sync": [dict(slot, key="good")] * 2, "record": None, "word": None, "state": "clean",
            "next_index": 9, "root_index": 8, "problems": []})

    def test_key(self):
        path = self.write("s", Store(key=b"k" * 32).image())
        key = (b"k" * 32).hex()
        keys = {
            ("--key", key): "good", ("--key", key.upper()): "good", ("--key", "00" * 32): "bad", (): "unknown",
            ("--key-file", self.write("k1", key.encode() + b"\n")): "good",
            ("--key-file", self.write("k2", key.encode())): "good",
        }
        for args, verdict in keys.items():
            info = self.info(path, *args)
            self.assertEqual([slot["key"] for slot in info["process_sync"]], [verdict] * 2)
        for bad in ("", "6b" * 31, "6b" * 33, "6b" * 31 + "6", "zz" * 32, " " + "6b" * 32):
            self.assert_usage("celldump", "info", path, "--key", bad)
            done = self.expect(SYSTEM, "celldump", "info", path, "--key-file", self.write("bad", bad.encode() + b"\n"))
            self.assertEqual(done.stdout, b"")
        self.expect(SYSTEM, "celldump", "info", path, "--key-file", self.path("none"))
        self.assert_usage("celldump", "info", path, "--key", key, "--key-file", self.path("k1"))

    def test_states(self):
        store = Store()
        for i in range(6):
            store.cell(content(i, 32))
        last = store.next()
        cases = {
            "clean": [((last, 9), (last, 9))],
            "unflushed": [((10, 9), (last, 9)), ((last, 9), (last, 8)), ((last, 9), (last, 0)), ((10, 9), (last, 8))],
            "recoverable": [((last, 9), (last - 1, 9))],
            "corrupt": [((last + 1, 9), (last + 1, 9)), ((10, 9), (last + 1, 9)), ((7, 0), (10, 9)), ((0, 0), (10, 9)),
                        (((1 << 32) - 1, 9), ((1 << 32) - 1, 9))],
        }
        for state, pairs in cases.items():
            for disk, process in pairs:
                path = self.write("s", store.image(disk=disk, process=process))
                info = self.info(path, code=EXIT_CODES[state])
                self.assertEqual((info["state"], info["next_index"]), (state, disk[0]), (disk, process))
                self.assertEqual(info["root_index"], disk[1] or None)
                self.assertEqual(bool(info["problems"]), state in ("recoverable", "corrupt"))

    def test_broken_slots(self):
        """All 16 ways for slots to be broken."""
        store = Store()
        image = store.image(root=0, disk=(8, 0))
        for broken in range(16):
            data = bytearray(image)
            for slot in range(4):
                if broken >> slot & 1:
                    data[32 + 32 * slot] ^= 0x80
            state = "corrupt" if broken & 3 == 3 else "recoverable" if broken else "clean"
            info = self.info(self.write("s", bytes(data)), code=EXIT_CODES[state])
            self.assertEqual(info["state"], state)
            valid = [slot["valid"] for slot in info["disk_sync"] + info["process_sync"]]
            self.assertEqual(valid, [not broken >> slot & 1 for slot in range(4)])
            self.assertEqual(info["next_index"], None if broken & 3 == 3 else 8)
            self.assertEqual(info["disk_sync"][0]["next_index"], 8)

    def test_whole_slots_that_differ(self):
        """Told, and no more: the first one is in force."""
        store = Store()
        store.cell(b"a")
        store.cell(b"b")
        for at in (64, 128):
            for state in ((10, 8), (9, 9)):
                data = bytearray(store.image(root=9))
                data[at:at + 32] = slot_bytes(*state)
                info = self.info(self.write("s", bytes(data)))
                self.assertEqual((info["state"], info["next_index"], info["root_index"]), ("clean", 10, 9))
                self.assertEqual([problem.split(":")[0] for problem in info["problems"]], ["offset %d" % (at + 24)])

    def test_second_slot_in_force(self):
        store = Store()
        store.cell(b"a")
        data = bytearray(store.image(root=8))
        data[32:64] = bytes(12) + slot_bytes(1234, 77)[12:]
        info = self.info(self.write("s", bytes(data)), code=RECOVERABLE)
        self.assertEqual((info["next_index"], info["root_index"]), (9, 8))
        self.assertEqual(info["disk_sync"][0], {"valid": False, "next_index": 1234, "root_index": 77})

    def test_root_outside_is_told(self):
        store = Store()
        store.cell(b"a")
        for root in (3, 9, 4000000000):
            info = self.info(self.write("s", store.image(root=root)))
            self.assertEqual((info["state"], info["root_index"]), ("clean", root))
            self.assertIn("offset 56: found root index %d" % root, info["problems"][0])

    def test_text(self):
        store = Store()
        store.cell(b"a")
        store.cell(b"b")
        text = self.expect(DONE, "celldump", "info", self.write("s", store.image(disk=(9, 8), process=(10, 9)))).stdout
        for part in (b"PLEBEIA TEST", b"bytes per cell   32", b"next 9, root 8", b"next 10, root 9", b"unflushed"):
            self.assertIn(part, text)

    def test_retired(self):
        data = bytearray(Store().image())
        data[192] = 8
        path = self.write("s", bytes(data))
        self.assertIn(b"retired", self.expect(DONE, "celldump", "info", path).stdout)
        self.assertIn(b"retired", self.expect(DONE, "celldump", "check", path).stdout)


class Header(ToolTest):
    def test_every_field_with_its_offset(self):
        key = b"k" * 32
        store = Store(key=key, version=77)
        store.cell(b"a")
        image = store.image(root=8)
        lines = self.expect(DONE, "celldump", "header", self.write("s", image), "--key", key.hex()).stdout.decode()
        fields = {int(line.split()[0]): line for line in lines.splitlines() if line.split()[0].isdigit()}
        sizes = {0: 20, 20: 4, 24: 4, 28: 4}
        for slot in (32, 64, 96, 128):
            sizes.update({slot: 12, slot + 12: 12, slot + 24: 4, slot + 28: 4})
        for at, size in sizes.items():
            self.assertIn(image[at:at + size].hex(), fields[at])
            self.assertEqual(fields[at].split()[1], str(size))
        covered = sorted((at, int(line.split()[1])) for at, line in fields.items())
        self.assertEqual(sum(size for _, size in covered), 256)
        self.assertTrue(all(a + size == b for (a, size), (b, _) in zip(covered, covered[1:])))
        self.assertTrue(fields[28].endswith(" 77"))
        self.assertTrue(fields[60].endswith(" 9"))
        self.assertTrue(fields[56].endswith(" 8"))
        self.assertIn("key good", fields[108])

    def test_broken_slot(self):
        data = bytearray(Store().image())
        data[64] ^= 1
        text = self.expect(RECOVERABLE, "celldump", "header", self.write("s", bytes(data))).stdout
        self.assertIn(b"disk-sync #2: BROKEN", text)
        self.assertIn(b"disk-sync #1: valid, in force", text)

    def test_short_file(self):
        text = self.expect(CORRUPT, "celldump", "header", self.write("s", Store().image()[:50])).stdout
        self.assertIn(b"beyond the end of the file", text)


class Cell(ToolTest):
    def setUp(self):
        super().setUp()
        self.store = Store(bytes_per_cell=20)
        for i in range(5):
            self.store.cell(content(i, 20))
        self.first = self.store.start
        self.image = self.store.image(disk=(self.first + 3, 0), process=(self.first + 4, 0), spare_cells=1)
        self.file = self.write("s", self.image)

    def test_raw(self):
        done = self.expect(DONE, "celldump", "cell", self.file, self.first + 1, "--raw")
        self.assertEqual(done.stdout, content(1, 20))
        done = self.expect(DONE, "celldump", "cell", "--count", 3, self.file, self.first, "--raw")
        self.assertEqual(done.stdout, b"".join(content(i, 20) for i in range(3)))
        everything = self.expect(DONE, "celldump", "cell", self.file, 0, "--count", len(self.image) // 20, "--raw")
        self.assertEqual(everything.stdout, self.image)

    def test_hex_and_text(self):
        offset = (self.first + 1) * 20
        lines = self.expect(DONE, "celldump", "cell", self.file, self.first + 1).stdout.decode().splitlines()
        self.assertIn("bytes %d..%d" % (offset, offset + 19), lines[0])
        dumped = bytes.fromhex("".join(line[10:60] for line in lines[1:]))
        self.assertEqual(dumped, content(1, 20))
        self.assertEqual([int(line[:8], 16) for line in lines[1:]], [offset, offset + 16])
        text = "".join(line.split("|", 1)[1][:-1] for line in lines[1:])
        self.assertEqual(text, "".join(chr(b) if 32 <= b < 127 else "." for b in content(1, 20)))

    def test_every_byte_as_text(self):
        store = Store(bytes_per_cell=256)
        index = store.cell(bytes(range(256)))
        done = self.expect(DONE, "celldump", "cell", self.write("s", store.image()), index)
        lines = done.stdout.decode().splitlines()
        self.assertEqual("".join(line[-17:-1] for line in lines[1:]),
                         "".join(chr(b) if 32 <= b < 127 else "." for b in range(256)))

    def test_says_what_the_cell_is(self):
        for index, kind in ((0, b"header"), (self.first + 2, b"flushed"), (self.first + 3, b"not flushed"),
                            (self.first + 4, b"beyond next index")):
            self.assertIn(kind, self.expect(DONE, "celldump", "cell", self.file, index).stdout)

    def test_outside(self):
        cells = len(self.image) // 20
        for args in ((cells,), (4294967295,), (cells - 1, "--count", 2), (0, "--count", 4294967296)):
            done = self.expect(SYSTEM, "celldump", "cell", self.file, *args)
            self.assertEqual(done.stdout, b"")
            self.assertIn(b"0..%d" % (cells - 1), done.stderr)
        self.expect(DONE, "celldump", "cell", self.file, cells - 1)
        self.expect(CORRUPT, "celldump", "cell", self.write("short", self.image[:22]), 0)
        self.expect(SYSTEM, "celldump", "cell", self.write("short", self.image[:24]), 1)

    def test_unusable_config(self):
        data = bytearray(self.image)
        data[20:24] = bytes(4)
        done = self.expect(CORRUPT, "celldump", "cell", self.write("s", bytes(data)), 20)
        self.assertEqual(done.stdout, b"")


class Chunk(ToolTest):
    def setUp(self):
        super().setUp()
        self.store = Store()
        self.values = {self.store.value(content(size, size)): content(size, size)
                       for size in (0, 1, 26, 27, 1000, 65535, 65536, 200000)}
        self.file = self.write("s", self.store.image(root=max(self.values)))

    def test_raw_json_and_text(self):
        for index, value in self.values.items():
            self.assertEqual(self.expect(DONE, "celldump", "chunk", self.file, index, "--raw").stdout, value)
            dumped = json.loads(self.expect(DONE, "celldump", "chunk", self.file, index, "--json").stdout)
            self.assertEqual((dumped["index"], dumped["size_bytes"]), (index, len(value)))
            self.assertEqual(bytes.fromhex(dumped["hex"]), value)
            self.assertEqual(sum(chunk["size_bytes"] for chunk in dumped["chunks"]), len(value))
            self.assertEqual(dumped["chunks"][0]["cdr"], 0)
            self.assertEqual(dumped["chunks"][-1]["last_index"], index)
            lines = self.expect(DONE, "celldump", "chunk", self.file, index).stdout.decode().splitlines()
            self.assertIn("value %d: %d bytes" % (index, len(value)), lines[0])
            self.assertEqual(len([line for line in lines if line.startswith("chunk ")]), len(dumped["chunks"]))
            shown = bytes.fromhex("".join(line[10:60] for line in lines[1:] if not line.startswith("chunk ")))
            self.assertEqual(shown, value)

    def test_index_outside(self):
        for index in (0, 7, self.store.next(), 4294967295):
            done = self.expect(SYSTEM, "celldump", "chunk", self.file, index, "--raw")
            self.assertEqual(done.stdout, b"")
            self.assertIn(b"from 8 to %d" % (self.store.next() - 1), done.stderr)
        empty = self.write("empty", Store().image(spare_cells=4))
        self.expect(SYSTEM, "celldump", "chunk", empty, 8)

    def test_larger_next_counts(self):
        """Committed and not flushed is in the store; what lies behind is not."""
        image = self.store.image(disk=(9, 8), process=(self.store.next() - 1, 8), spare_cells=9)
        path = self.write("s", image)
        last = max(self.values)
        self.expect(SYSTEM, "celldump", "chunk", path, last)
        self.expect(DONE, "celldump", "chunk", path, sorted(self.values)[-2])

    def test_exit_code_of_the_store_goes_with_a_good_chunk(self):
        data = bytearray(self.store.image(root=8))
        data[32] ^= 1
        index = min(self.values)
        path = self.write("s", bytes(data))
        self.assertEqual(self.expect(RECOVERABLE, "celldump", "chunk", path, index, "--raw").stdout, b"")
        self.expect(CORRUPT, "celldump", "chunk", self.write("cut", self.store.image()[:9 * 32]), index)

    def test_small_cells(self):
        """With 4 and 5 bytes per cell the footer spans two cells."""
        for bytes_per_cell in (4, 5, 6, 7):
            store = Store(bytes_per_cell=bytes_per_cell)
            values = {store.value(content(n, n)): content(n, n) for n in range(20)}
            path = self.write("s", store.image())
            for index, value in values.items():
                self.assertEqual(self.expect(DONE, "celldump", "chunk", path, index, "--raw").stdout, value)
        store = Store(bytes_per_cell=4)
        store.cell(b"abcd")
        done = self.expect(CORRUPT, "celldump", "chunk", self.write("s", store.image()), store.start)
        self.assertIn(b"footer", done.stderr)


class Check(ToolTest):
    def test_clean(self):
        store = Store()
        root = store.value(content(1, 200000))
        path = self.write("s", store.image(root=root))
        checked = json.loads(self.expect(DONE, "celldump", "check", path, "--json").stdout)
        self.assertEqual((checked["state"], checked["problems"]), ("clean", []))
        self.assertTrue(any("value of 200000 bytes in 4 chunks" in note for note in checked["notes"]))

    def test_small_values_at_the_root(self):
        store = Store()
        for size in (0, 1, 26, 27, 1000):
            path = self.write("s", store.image(root=store.value(content(size, size))))
            checked = json.loads(self.expect(DONE, "celldump", "check", path, "--json").stdout)
            self.assertTrue(any("value of %d bytes in 1 chunk" % size in note for note in checked["notes"]))

    def test_plain_root_is_no_problem(self):
        """A plain cell may hold anything, also what looks like the end of a chunk."""
        for tail in (b"\xff" * 6, footer_bytes(10, 8), footer_bytes(40, 9), footer_bytes(65535, 0),
                     footer_bytes(27, 4000000000), footer_bytes(0, 11)):
            store = Store()
            for i in range(4):
                store.cell(content(i, 32))
            root = store.cell(content(9, 26) + tail)
            done = self.expect(DONE, "celldump", "check", self.write("s", store.image(root=root)), "--json")
            self.assertEqual(json.loads(done.stdout)["problems"], [], tail)

    def test_plain_tree_is_no_problem(self):
        """Nodes that end in the index of another node, the one right before them: a store of the original's kind."""
        store = Store()
        child = store.cell(content(0, 32))
        for i in range(1, 40):
            child = store.cell(content(i, 26) + footer_bytes(i % 27, child))
            done = self.expect(DONE, "celldump", "check", self.write("s", store.image(root=child)), "--json")
            self.assertEqual(json.loads(done.stdout)["problems"], [], i)

    def test_extension_bytes_are_a_note(self):
        data = bytearray(Store().image())
        data[176] = 1
        checked = json.loads(self.expect(DONE, "celldump", "check", self.write("s", bytes(data)), "--json").stdout)
        self.assertEqual(checked["problems"], [])
        self.assertTrue(any("offset 176" in note and "extension" in note for note in checked["notes"]))

    def test_committed_root_is_walked_too(self):
        store = Store()
        flushed = store.value(b"flushed")
        next_index = store.next()
        root = store.value(content(1, 100000))
        image = bytearray(store.image(disk=(next_index, flushed), process=(store.next(), root)))
        self.expect(DONE, "celldump", "check", self.write("s", bytes(image)))
        first_chunk_end = (flushed + 1) * 32 + -(-65541 // 32) * 32
        image[first_chunk_end - 4:first_chunk_end] = b"\xff" * 4
        done = self.expect(CORRUPT, "celldump", "check", self.write("s", bytes(image)))
        self.assertIn(b"offset %d" % (first_chunk_end - 6), done.stderr)
        self.assertIn(b"problem", done.stdout)

    def test_everything_wrong_is_said(self):
        store = Store()
        store.cell(b"x")
        data = bytearray(store.image(root=8))
        data[32] ^= 1
        data[96] ^= 1
        data[24:28] = (5).to_bytes(4, "little")
        data += b"odd"
        problems = json.loads(self.expect(CORRUPT, "celldump", "check", self.write("s", bytes(data)), "--json").stdout)
        offsets = [int(problem.split()[1].rstrip(":")) for problem in problems["problems"]]
        for offset in (24, 32, 96, 9 * 32):
            self.assertIn(offset, offsets)


class CommandLine(ToolTest):
    def test_common_options(self):
        self.check_common_options("celldump")
        self.expect(DONE, "celldump", "info", "--help")

    def test_usage(self):
        path = self.write("s", Store().image())
        for args in (("dump", path), ("info",), ("info", path, path), ("cell", path), ("cell", path, 1, 2),
                     ("chunk", path), ("header",), ("check",), ("info", path, "--raw"), ("header", path, "--json"),
                     ("check", path, "--key", "00" * 32), ("cell", path, 8, "--json"), ("info", path, "--count", 1),
                     ("chunk", path, 8, "--raw", "--json"), ("info", path, "--key"), ("chunk", path, 8, "--count", 1)):
            self.assert_usage("celldump", *args)
        for number in ("", "x", "1x", "+1", "-1", " 1", "1 ", "0x10", "4294967296", "99999999999999999999", "1.0",
                       "1e3"):
            self.assert_usage("celldump", "cell", path, number)
            self.assert_usage("celldump", "chunk", path, number)
            if number != "4294967296":
                self.assert_usage("celldump", "cell", path, 0, "--count", number)
        self.assert_usage("celldump", "cell", path, 0, "--count", 0)

    def test_full_output(self):
        with open("/dev/full", "wb") as full:
            path = self.write("s", Store().image())
            for args in (("info", path), ("info", path, "--json"), ("check", path), ("cell", path, 0, "--raw")):
                done = self.expect(SYSTEM, "celldump", *args, stdout=full)
                self.assertIn(b"standard output", done.stderr)


if __name__ == "__main__":
    main()
