"""cellsum: what it finds in a store, what it makes good, and how it ends."""
import json
import os
import struct
import subprocess

from toolset import BUSY, CORRUPT, DONE, MAX_INDEX, RECOVERABLE, SYSTEM, Store, ToolTest, command, content, main, run


class Sums(ToolTest):
    """A store with checksums, of three values."""

    def setUp(self):
        super().setUp()
        self.store = self.path("store")
        self.sums = self.store + ".cellar-sums"
        self.make(self.store)

    def make(self, store):
        files = [self.write("value%d" % i, content(i, size)) for i, size in enumerate((10, 300000, 70000))]
        self.expect(DONE, "cellput", "--create", "--max-index", MAX_INDEX, store, *files)
        self.expect(DONE, "cellsum", "add", store)

    def patch(self, name, offset, data):
        with open(name, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def flip(self, name, offset, bit):
        with open(name, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1 << bit]))

    def check(self, code=DONE, store=None):
        done = self.expect(code, "cellsum", "check", store or self.store)
        return done.stdout.decode().splitlines(), done.stderr.decode()

    def assert_good(self, store=None):
        lines, errors = self.check(store=store)
        size = os.path.getsize(store or self.store)
        self.assertEqual(lines, ["flushed  %d bytes" % size, "compared %d bytes, 0 rotten blocks" % (size - 256),
                                 "without  0 bytes have no checksum", "sums     good"])
        self.assertEqual(errors, "")

    def test_common_options(self):
        self.check_common_options("cellsum")

    def test_usage(self):
        for args in (("nothing",), ("check",), ("check", "a", "b"), ("restore", "a"), ("check", "--force", "a"),
                     ("add", "--force", "a"), ("--force",)):
            self.assert_usage("cellsum", *args)

    def test_good(self):
        self.assert_good()

    def test_cellput_tells(self):
        """What becomes of the checksums while cellput works is not kept back."""
        value = self.write("more", b"more")
        self.flip(self.sums, 12288 + 512 * (os.path.getsize(self.store) // 4096 // 61) + 20, 1)
        done = self.expect(DONE, "cellput", self.store, value)
        self.assertIn(b"up to 61 blocks got new checksums", done.stderr)
        self.assertEqual(self.expect(DONE, "cellput", self.store, value).stderr, b"")
        os.unlink(self.sums)
        self.assertIn(b"checksums are lost", self.expect(DONE, "cellput", self.store, value).stderr)

    def test_rotten(self):
        self.flip(self.store, 123456, 3)
        self.flip(self.store, 300, 7)
        self.patch(self.store, 200000, b"rotten" * 10)
        lines, _ = self.check(CORRUPT)
        self.assertEqual(lines[:3], [
            "rotten   offset 300: bit 7 is flipped, in cell 9",
            "rotten   offset 123456: bit 3 is flipped, in cell 3858",
            "rotten   offset 196608: 4096 bytes, cells 6144..6271, are not what was written"])
        self.assertIn("3 rotten blocks", lines[4])
        done = self.expect(CORRUPT, "cellsum", "rebuild", self.store)
        self.assertIn(b"3 blocks", done.stderr)
        self.expect(DONE, "cellsum", "rebuild", "--force", self.store)
        self.assert_good()

    def test_rotten_tail(self):
        self.flip(self.store, os.path.getsize(self.store) - 1, 0)
        lines, _ = self.check(CORRUPT)
        self.assertTrue(any(line.startswith("tail ") for line in lines))

    def test_cut(self):
        os.truncate(self.store, 100000 // 32 * 32)
        lines, _ = self.check(CORRUPT)
        self.assertTrue(lines[0].endswith("cannot be read"))

    def test_lost_and_stale(self):
        os.rename(self.sums, self.path("kept"))
        lines, errors = self.check(RECOVERABLE)
        self.assertEqual(lines[-1], "sums     lost")
        self.assertIn("cellsum rebuild", errors)
        self.assertIn(self.sums, errors)
        self.expect(DONE, "cellsum", "rebuild", self.store)
        self.assert_good()
        other = self.path("other")
        self.make(other)
        os.replace(other + ".cellar-sums", self.sums)
        lines, errors = self.check(RECOVERABLE)
        self.assertEqual(lines[-1], "sums     stale")
        self.assertIn("another store", errors)
        os.replace(self.path("kept"), self.sums)
        self.assert_good()

    def test_broken_sector(self):
        self.flip(self.sums, 12288 + 100, 0)
        lines, _ = self.check(RECOVERABLE)
        self.assertIn("broken   1 sector of the checksum file", lines)
        self.assertEqual(lines[-1], "sums     behind")
        self.expect(DONE, "cellsum", "rebuild", self.store)
        self.assert_good()

    def test_without(self):
        plain = self.write("plain", Store().image())
        done = self.expect(SYSTEM, "cellsum", "check", plain)
        self.assertIn(b"cellsum add", done.stderr)
        self.expect(SYSTEM, "cellsum", "rebuild", plain)
        self.expect(SYSTEM, "cellsum", "add", self.store)
        self.expect(SYSTEM, "cellsum", "check", self.path("nothing"))
        self.expect(CORRUPT, "cellsum", "check", self.write("junk", b"junk" * 100))

    def test_what_the_original_appends_is_behind(self):
        """A file that grew by somebody who knows nothing of checksums, made by hand here."""
        data = bytearray(self.read("store"))
        next_index = len(data) // 32
        made = Store()
        made.data = bytearray(data) + content(9, 640)
        image = bytearray(made.image(disk=(next_index + 20, 0), process=(next_index + 20, 0)))
        image[160:256] = data[160:256]
        image[0:32] = data[0:32]
        self.write("store", bytes(image))
        lines, _ = self.check()
        self.assertEqual(lines[-2:], ["without  640 bytes have no checksum", "sums     behind"])
        self.expect(DONE, "cellput", self.store, self.path("value0"))
        self.assert_good()

    def test_busy(self):
        writer = subprocess.Popen(command("cellput", "--lines", "--commit-every", 1, self.store), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        try:
            writer.stdin.write(b"line\n")
            writer.stdin.flush()
            writer.stdout.readline()
            self.check()
            self.expect(BUSY, "cellsum", "rebuild", self.store)
        finally:
            writer.communicate()
        self.assert_good()

    def test_celldump_check(self):
        """celldump check compares the checksums, too, and says whether the root can be reached."""
        root = self.info(self.store)["root_index"]
        checked = json.loads(self.expect(DONE, "celldump", "check", self.store, "--json").stdout)
        self.assertIn("the committed root %d can be reached" % root, checked["notes"])
        size = os.path.getsize(self.store)
        self.assertIn("checksums: %d bytes compared, 0 rotten blocks; 0 flushed bytes have none" % (size - 256),
                      checked["notes"])
        self.flip(self.store, 123456, 3)
        checked = json.loads(self.expect(CORRUPT, "celldump", "check", self.store, "--json").stdout)
        self.assertIn("offset 123456: found bit 3 flipped, in cell 3858, expected what the checksum is of",
                      checked["problems"])
        self.flip(self.store, 123456, 3)
        self.flip(self.sums, 12288, 0)
        self.expect(RECOVERABLE, "celldump", "check", self.store)
        self.flip(self.sums, 12288, 0)
        os.remove(self.sums)
        done = self.expect(RECOVERABLE, "celldump", "check", self.store)
        self.assertIn(b"checksums that are lost", done.stderr)

    def test_a_root_that_cannot_be_reached(self):
        store = Store()
        first = store.value(content(1, 100000))
        image = bytearray(store.image(root=first))
        struct.pack_into("<I", image, (first + 1) * 32 - 4, first)
        checked = json.loads(self.expect(CORRUPT, "celldump", "check", self.write("s", bytes(image)), "--json").stdout)
        self.assertIn("the committed root %d cannot be reached: its chain of chunks is broken" % first,
                      checked["notes"])
        path = self.write("s", store.image(root=store.next() + 5))
        checked = json.loads(run("celldump", "check", path, "--json").stdout)
        self.assertIn("the committed root %d cannot be reached: it is no cell in use" % (store.next() + 5),
                      checked["notes"])

    def test_restore(self):
        whole = self.read("store")
        for lost in (1, 512, 4096):
            self.patch(self.store, 0, bytes(lost) if lost > 1 else b"X")
            made = self.path("made%d" % lost)
            done = self.expect(DONE, "cellsum", "restore", self.store, made)
            self.assertEqual(done.stdout.decode(), "restored %s: cells of 32 bytes, next %d, root %d\n" %
                             (made, len(whole) // 32, struct.unpack("<I", whole[56:60])[0]))
            self.assert_good(made)
            self.assertEqual(self.expect(DONE, "cellget", made, "--root").stdout, self.read("value2"))
            restored = self.read("made%d" % lost)
            self.assertEqual(restored[:96], whole[:96])
            self.assertEqual(restored[256:], whole[256:])
            self.expect(SYSTEM, "cellsum", "restore", self.store, made)
        os.remove(self.sums)
        self.expect(SYSTEM, "cellsum", "restore", self.store, self.path("more"))
        self.assertFalse(os.path.exists(self.path("more")))


if __name__ == "__main__":
    main()
