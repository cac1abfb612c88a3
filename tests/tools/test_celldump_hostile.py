"""celldump on what is no store, or no longer one: it ends, says so, and changes nothing."""
import json
import os
import random
import stat
import struct

from toolset import (CORRUPT, DONE, RECOVERABLE, SYSTEM, Store, ToolTest, content, footer_bytes, main, run, slot_bytes)

LIMIT_SECONDS = 60  # far more than anything here takes: a hang is what it catches


def every_command(path):
    return (("info", path), ("info", path, "--json"), ("header", path), ("cell", path, 0), ("cell", path, 8, "--raw"),
            ("chunk", path, 8), ("chunk", path, 10, "--json"), ("check", path), ("check", path, "--json"))


class NoStores(ToolTest):
    def refuse(self, path, found=b""):
        for args in every_command(path):
            done = self.expect(SYSTEM, "celldump", *args, timeout=LIMIT_SECONDS)
            self.assertEqual(done.stdout, b"")
            self.assertIn(os.fsencode(path), done.stderr)
            self.assertIn(found, done.stderr)

    def test_missing(self):
        self.refuse(self.path("none"))
        self.refuse(self.path("none/below"))

    def test_directory(self):
        self.refuse(self.folder, b"found a directory")

    def test_fifo(self):
        os.mkfifo(self.path("fifo"))
        self.refuse(self.path("fifo"), b"found a FIFO")

    def test_devices(self):
        for path in ("/dev/null", "/dev/zero", "/dev/full"):
            self.refuse(path, b"found a device")

    def test_link_loop(self):
        os.symlink("loop", self.path("loop"))
        self.refuse(self.path("loop"))

    def test_unreadable(self):
        path = self.write("s", Store().image())
        os.chmod(path, 0)
        if os.geteuid() != 0:
            self.refuse(path)
            return
        os.chmod(self.folder, 0o755)
        try:
            done = run("celldump", "info", path, user=65534, group=65534, extra_groups=[])
        except PermissionError:
            self.skipTest("the tools are out of reach for others than root")
        self.assertEqual(done.returncode, SYSTEM)
        self.assertIn(os.fsencode(path), done.stderr)

    def test_read_permission_is_enough(self):
        path = self.write("s", Store().image())
        os.chmod(path, stat.S_IRUSR)
        self.expect(DONE, "celldump", "info", path)

    def test_too_short(self):
        """Every length below the header, and what is there is printed."""
        store = Store()
        store.cell(b"a")
        image = store.image(root=8)
        for length in list(range(0, 40)) + list(range(40, 256, 7)) + [255]:
            path = self.write("s", image[:length])
            info = self.info(path, code=CORRUPT)
            self.assertEqual(info["state"], "corrupt")
            self.assertEqual(info["file_bytes"], length)
            self.assertEqual(info["head_string"] is None, length < 20)
            self.assertEqual(info["bytes_per_cell"], 32 if length >= 24 else None)
            self.assertEqual(info["max_index"] is None, length < 28)
            self.assertEqual(info["version"], 1 if length >= 32 else None)
            self.assertEqual(info["start_index"], 8 if length >= 24 else None)
            self.assertEqual([slot["valid"] for slot in info["disk_sync"]], [length >= 64, length >= 96])
            self.assertEqual([slot["next_index"] for slot in info["disk_sync"]],
                             [9 if length >= 64 else None, 9 if length >= 96 else None])
            self.assertEqual(info["next_index"], 9 if length >= 64 else None)
            self.expect(CORRUPT, "celldump", "header", path)
            self.expect(CORRUPT, "celldump", "check", path)
            self.assertTrue(any("%d: found the end of the file, expected 256" % length in problem
                                for problem in info["problems"]))
        self.expect(CORRUPT, "celldump", "info", self.write("s", image[:256]))


class Configs(ToolTest):
    def test_out_of_bounds(self):
        for bytes_per_cell in (0, 1, 3, 65536, 1 << 31, (1 << 32) - 1):
            data = bytearray(Store().image(root=0))
            data[20:24] = struct.pack("<I", bytes_per_cell)
            path = self.write("s", bytes(data))
            info = self.info(path, code=CORRUPT)
            self.assertEqual((info["bytes_per_cell"], info["start_index"], info["cells"]), (bytes_per_cell, None, None))
            self.assertEqual((info["next_index"], info["state"]), (8, "corrupt"))
            for args in every_command(path):
                done = self.expect(CORRUPT, "celldump", *args)
                self.assertIn(b"offset 20", done.stderr)

    def test_max_index(self):
        for max_index, code in ((0, CORRUPT), (7, CORRUPT), (8, CORRUPT), (9, DONE)):
            store = Store(max_index=max_index)
            store.cell(b"a")
            done = self.expect(code, "celldump", "info", self.write("s", store.image()))
            if code != DONE:
                self.assertIn(b"offset 24", done.stderr)


class Sparse(ToolTest):
    """Files of 100 GB that take no space."""

    SIZE = 100 * 1000 * 1000 * 1000 // 32 * 32

    def sparse(self, image):
        path = self.write("s", image)
        os.truncate(path, self.SIZE)
        return path

    def test_whole_header(self):
        store = Store(max_index=(1 << 32) - 257)
        cells = self.SIZE // 32
        path = self.sparse(store.image(disk=(cells, cells - 1)))
        info = self.info(path, timeout=LIMIT_SECONDS)
        self.assertEqual((info["cells"], info["next_index"], info["state"]), (cells, cells, "clean"))
        for args in (("header", path), ("check", path), ("cell", path, cells - 1), ("chunk", path, cells - 1)):
            self.expect(DONE, "celldump", *args, timeout=LIMIT_SECONDS)
        raw = self.expect(DONE, "celldump", "cell", path, cells - 2, "--count", 2, "--raw", timeout=LIMIT_SECONDS)
        self.assertEqual(raw.stdout, bytes(64))

    def test_zeros(self):
        path = self.sparse(b"")
        for args in every_command(path):
            self.expect(CORRUPT, "celldump", *args, timeout=LIMIT_SECONDS)

    def test_more_cells_than_an_index_names(self):
        store = Store(bytes_per_cell=4, max_index=(1 << 32) - 1)
        path = self.write("s", store.image(disk=((1 << 32) - 1, (1 << 32) - 2)))
        os.truncate(path, 4 * ((1 << 32) + 5))
        info = self.info(path, code=CORRUPT)
        self.assertEqual(info["cells"], (1 << 32) + 5)
        self.expect(CORRUPT, "celldump", "chunk", path, (1 << 32) - 2, timeout=LIMIT_SECONDS)
        self.expect(CORRUPT, "celldump", "cell", path, (1 << 32) - 1, "--count", 2, timeout=LIMIT_SECONDS)
        self.expect(CORRUPT, "celldump", "check", path, timeout=LIMIT_SECONDS)


class Chains(ToolTest):
    """A chain that is broken ends where it breaks."""

    def broken(self, image, index, offset):
        path = self.write("s", image)
        done = self.expect(CORRUPT, "celldump", "chunk", path, index, "--raw", timeout=LIMIT_SECONDS)
        self.assertEqual(done.stdout, b"")
        self.assertIn(b"offset %d: found" % offset, done.stderr)
        done = self.expect(CORRUPT, "celldump", "chunk", path, index, "--json", timeout=LIMIT_SECONDS)
        dumped = json.loads(done.stdout)
        self.assertEqual((dumped["size_bytes"], dumped["hex"]), (None, None))
        self.assertTrue(any("offset %d" % offset in problem for problem in dumped["problems"]))
        self.expect(CORRUPT, "celldump", "chunk", path, index, timeout=LIMIT_SECONDS)
        return path, dumped

    def test_one_chunk(self):
        """A cell whose footer says what no chunk says."""
        for size, cdr in ((200, 0), (65535, 0), (10, 10), (10, 11), (10, 12), (10, 7), (10, 1), (10, (1 << 32) - 1),
                          (27, 9), (26, 10)):
            store = Store()
            store.cell(b"a")
            store.cell(b"b")
            index = store.chunk(b"0123456789", size=size, cdr=cdr)
            store.cell(b"c")
            self.broken(store.image(), index, index * 32 + 26)

    def test_padded_root(self):
        """Zeros between data and footer show that the root ends a value: a cdr that leads nowhere is then found."""
        for cdr in (1, 7, 10, 12, (1 << 32) - 1):
            store = Store()
            store.cell(b"a")
            store.cell(b"b")
            root = store.chunk(b"abc", cdr=cdr)
            path = self.write("s", store.image(root=root))
            done = self.expect(CORRUPT, "celldump", "check", path, timeout=LIMIT_SECONDS)
            self.assertIn(b"offset %d: found" % (root * 32 + 26), done.stderr)

    def test_cycles(self):
        """The check of the root's value finds them as well."""
        store = Store()
        alone = store.next()
        self.assertEqual(store.chunk(b"x", cdr=alone), alone)
        path, _ = self.broken(store.image(root=alone), alone, alone * 32 + 26)
        self.expect(CORRUPT, "celldump", "check", path, timeout=LIMIT_SECONDS)
        store = Store()
        first = store.chunk(content(1, 65535), cdr=8 + 2049)
        last = store.chunk(b"rest", cdr=first)
        path, dumped = self.broken(store.image(root=last), last, (first + 1) * 32 - 6)
        self.assertEqual([chunk["last_index"] for chunk in dumped["chunks"]], [last])
        self.expect(CORRUPT, "celldump", "check", path, timeout=LIMIT_SECONDS)

    def test_value_damaged_anywhere(self):
        """200000 bytes in four chunks: each footer but the first one's size in turn made wrong."""
        value = content(5, 200000)
        for damaged in range(4):
            for size, cdr in ((None, (1 << 32) - 1), (None, 5), (None, 4000000)):
                store = Store()
                store.cell(b"before")
                last = 0
                for part in range(4):
                    piece = value[part * 65535:(part + 1) * 65535]
                    last = store.chunk(piece, size=size, cdr=cdr if part == damaged else last)
                    if part == damaged:
                        offset = (last + 1) * 32 - 6
                path, _ = self.broken(store.image(root=last), last, offset)
                if damaged > 0 or cdr != 5:
                    self.expect(CORRUPT, "celldump", "check", path, timeout=LIMIT_SECONDS)

    def test_last_chunk_that_reaches_into_the_one_before(self):
        """Only what its cdr names shows that the root ends a value."""
        store = Store()
        first = store.chunk(content(1, 65535))
        root = store.chunk(b"rest", size=65535, cdr=first)
        path, _ = self.broken(store.image(root=root), root, root * 32 + 26)
        self.expect(CORRUPT, "celldump", "check", path, timeout=LIMIT_SECONDS)

    def test_long_chain_of_small_chunks(self):
        store = Store(bytes_per_cell=8)
        last = 0
        expected = b""
        for i in range(100000):
            last = store.chunk(b"%d" % (i % 10), cdr=last)
            expected += b"%d" % (i % 10)
        done = self.expect(DONE, "celldump", "chunk", self.write("s", store.image()), last, "--raw",
                           timeout=LIMIT_SECONDS)
        self.assertEqual(done.stdout, expected)

    def test_next_beyond_the_file(self):
        """The cells that are there can still be looked at."""
        store = Store()
        index = store.value(b"here")
        path = self.write("s", store.image(disk=(1000, 900)))
        done = self.expect(CORRUPT, "celldump", "chunk", path, index, "--raw")
        self.assertEqual(done.stdout, b"here")
        self.expect(CORRUPT, "celldump", "check", path)
        self.expect(SYSTEM, "celldump", "chunk", path, 900)


class Noise(ToolTest):
    """Stores with bytes changed at random: an exit code of the list, nothing that looks like a crash."""

    def image(self, generator):
        store = Store(bytes_per_cell=generator.choice((4, 5, 7, 32, 100, 4096)))
        for _ in range(generator.randrange(1, 8)):
            root = store.value(content(generator.randrange(1000), generator.randrange(200)))
        return store, bytearray(store.image(root=root, spare_cells=generator.randrange(3)))

    def change(self, generator, data):
        kind = generator.randrange(4)
        if kind == 0:
            for _ in range(generator.randrange(1, 6)):
                data[generator.randrange(len(data))] = generator.randrange(256)
        elif kind == 1:
            del data[generator.randrange(len(data)):]
        elif kind == 2:
            at = 20 + 4 * generator.randrange(3)
            data[at:at + 4] = generator.choice((0, 1, 3, 4, 255, 256, 65535, 65536, 1 << 31, (1 << 32) - 1)) \
                .to_bytes(4, "little")
        else:
            state = slot_bytes(generator.choice((0, 1, 8, 9, 70, 1 << 31, (1 << 32) - 1)),
                               generator.choice((0, 1, 8, 9, 70, 1 << 31, (1 << 32) - 1)))
            at = 32 + 32 * generator.randrange(4)
            data[at:at + 32] = state
        if len(data) > 600 and generator.randrange(2):
            at = generator.randrange(256, len(data) - 6)
            data[at:at + 6] = footer_bytes(generator.randrange(65536), generator.choice((0, 1, 8, 70, 1 << 31)))

    def test_noise(self):
        generator = random.Random(20)
        for turn in range(60):
            store, data = self.image(generator)
            self.change(generator, data)
            path = self.write("s", bytes(data))
            index = generator.randrange(store.start, store.next())
            code = None
            for args in (("info", path), ("header", path), ("check", path, "--json"), ("chunk", path, index),
                         ("chunk", path, index, "--raw"), ("cell", path, index, "--count", 2)):
                done = run("celldump", *args, timeout=LIMIT_SECONDS)
                self.assertIn(done.returncode, (DONE, SYSTEM, RECOVERABLE, CORRUPT), (turn, args, done.stderr))
                if args[0] == "info":
                    code = done.returncode
                if args[0] == "header":
                    self.assertEqual(done.returncode, code)
                if args[0] == "check":
                    self.assertEqual(json.loads(done.stdout)["state"] == "corrupt", done.returncode == CORRUPT)
                    self.assertGreaterEqual(done.returncode, code)
            self.assertEqual(self.read("s"), bytes(data))


if __name__ == "__main__":
    main()
