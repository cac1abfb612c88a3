#!/usr/bin/env python3
"""Breaks the library on purpose, one place at a time, and sees that the crash simulator finds it.

Each mutant is a piece of source replaced by another. The file is compiled with the flags of the build, linked before
the library with the simulator's objects, and run until a failure. A mutant whose piece is not there exactly once, or
that does not compile, or that survives, fails the test.
"""

import argparse
import concurrent.futures
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

PERSIST_DURABLE = "        error = cellar_header_repair(header, CELLAR_DISK_1, slot);\n        if (error == 0)\n"
VOID = ("    if (error == 0 && !pick->whole && evidence->extension.binding != 0)\n"
        "        error = cellar_header_store_word(to, CELLAR_AT_BINDING, 0);\n")
REBIND = "    if (error == 0)\n        error = rebind(writer, evidence, pick);\n"
MARKS = "    if (error == 0)\n        error = store_marks(writer, header, evidence, pick);\n"
P1 = "    error = store_slot(header, CELLAR_PROCESS_1, slot);\n"
BIND = ("    if (error == 0 && binds)\n"
        "        error = cellar_header_store(header, CELLAR_AT_BINDING, slot + CELLAR_SLOT_AT_KEYED_HASH, "
        "sizeof(uint64_t));\n")
CELLS = "    error = cellar_cells_commit(&writer->ground->cells, offset_of(writer, state.next_index));\n"
PUBLISH = "    error = cellar_header_publish(&writer->ground->header, &state, &writer->key);\n"

CHECKED_BARRIER = ("    if (error == 0)\n"
                   "        error = cellar_header_barrier(header, (uint64_t)state->next_index * bytes_per_cell);\n")

WORD_ADOPTED = ("    if (writer->words)\n"
                "        cellar_header_commit_word(to, adopted->next_index, adopted->root_index);\n")
SLOTS_ADOPTED = ("    error = binds_last ? cellar_header_publish_unbound(to, adopted, &writer->key)\n"
                 "                       : cellar_header_publish(to, adopted, &writer->key);\n")
FLAG_CLEAR = ("    if (header->words && !wanted)\n"
              "        error = cellar_header_change_flags(header, 0, CELLAR_FLAG_WORD);\n")
EPOCH = ("    if (error == 0 && (wanted || header->epoch != 0))\n"
         "        error = cellar_header_end_epoch(header);\n")
RETIRED = "    (void)!cellar_header_change_flags(&ground->header, CELLAR_FLAG_RETIRED, 0);\n"
RETIRED_EPOCH = ("    if (header->epoch != 0) /* they may go by the word */\n"
                 "        (void)!cellar_header_end_epoch(&ground->header);\n").replace("(header->", "(ground->header.")
WHOLE = "    pick->whole = is_whole(evidence) && !suspect;"
STORE_WORD = "cellar_header_commit_word(&writer->ground->header, writer->alloc.next_index, writer->root_index);"

# Not among them, because the simulator finds them too seldom, and unit tests do at once: SYNCING not stored around
# growth or a version (unit.writer_flush, test_every_sync_is_told), SUSPECT ignored (unit.writer_marks, test_suspect).
#
# name, the mode that must find it (and the seed to begin with), file, the piece, what it becomes
MUTANTS = (
    ("first barrier dropped", "window", "src/writer.c",
     "error = cellar_header_barrier(header, offset_of(writer, state->next_index));", "error = 0;"),
    ("first barrier of the header alone", "window", "src/writer.c",
     "cellar_header_barrier(header, offset_of(writer, state->next_index))",
     "cellar_header_barrier(header, CELLAR_HEADER_BYTES)"),
    ("first barrier skipped without new cells", "window", "src/writer.c",
     "(state->next_index > writer->synced_next || header->disk_pending)", "(state->next_index > writer->synced_next)"),
    ("first barrier without the last cell", "window", "src/writer.c",
     "cellar_header_barrier(header, offset_of(writer, state->next_index))",
     "cellar_header_barrier(header, offset_of(writer, state->next_index - 1))"),
    ("second barrier dropped", "window", "src/cell/header.c",
     PERSIST_DURABLE + "            error = cellar_header_barrier(header, CELLAR_HEADER_BYTES);\n",
     PERSIST_DURABLE + "            error = 0;\n"),
    ("durable write that is none", "durable", "src/cell/header.c",
     "error = cellar_device_write_durable(header->device, &part, 1, cellar_slot_offset(CELLAR_DISK_1));",
     "error = cellar_device_write(header->device, &part, 1, cellar_slot_offset(CELLAR_DISK_1));"),
    ("both disk slots before the barrier", "window", "src/cell/header.c",
     PERSIST_DURABLE, "        error = cellar_header_repair(header, CELLAR_DISK_1, slot);\n        if (error == 0)\n"
     "            error = cellar_header_repair(header, CELLAR_DISK_2, slot);\n        if (error == 0)\n"),
    ("disk slots the other way round", "window", "src/cell/header.c",
     PERSIST_DURABLE, PERSIST_DURABLE.replace("DISK_1", "DISK_2")),
    ("second disk slot skipped", "window", "src/cell/header.c",
     "    error = cellar_header_repair(header, CELLAR_DISK_2, slot);\n", ""),
    ("second disk slot not known to be pending", "window:6", "src/cell/header.c",
     "    header->disk_pending = true;\n    header->disk = *state;\n    error =",
     "    header->disk = *state;\n    error ="),
    ("first process slot skipped", "window", "src/cell/header.c", P1, "    error = 0;\n"),
    ("second process slot skipped", "window", "src/cell/header.c",
     "        error = store_slot(header, CELLAR_PROCESS_2, slot);", "        error = 0;"),
    ("binding before the slot", "window", "src/cell/header.c", P1 + BIND, "    error = 0;\n" + BIND + P1),
    ("binding skipped", "window", "src/cell/header.c", BIND, ""),
    ("published before the cells are written", "writes", "src/writer.c",
     CELLS, PUBLISH + "    if (error == 0)\n    " + CELLS),
    ("result of a sync ignored", "failing", "src/cell/header.c",
     "    int error = cellar_device_sync(header->device, 0, end_bytes);\n",
     "    int error = 0 * cellar_device_sync(header->device, 0, end_bytes);\n"),
    ("SUSPECT not stored", "failing-large:6", "src/cell/header.c", "    header->flags |= CELLAR_FLAG_SUSPECT;\n", ""),
    ("SYNCING not stored", "failing-large:1011", "src/cell/header.c",
     "    error = store_flags(header, header->flags | CELLAR_FLAG_SYNCING);", "    error = 0;"),
    ("clean header before a barrier", "failing-unmarked:37", "src/writer_recover.c",
     "error = cellar_header_touch(header);", "error = 0;"),
    ("cells not written again", "failing-large:19", "src/writer_recover.c",
     "        touch_pages(ground->window, from, end);", "        ;"),
    ("incarnation ignored", "window", "src/cell/header_pick.c",
     "evidence->incarnation != 0 && evidence->extension.boot_mark == evidence->incarnation &&",
     "evidence->incarnation != 0 &&"),
    ("binding ignored", "window", "src/cell/header_pick.c",
     " && evidence->slots[name].keyed == evidence->extension.binding", ""),
    ("marked before the binding is void", "window", "src/writer_recover.c", VOID, MARKS + VOID),
    ("binding not voided", "window", "src/writer_recover.c", VOID, ""),
    ("binding left to the slot that is mended", "window:10", "src/writer_recover.c", REBIND, ""),
    ("no barrier before a slot is raised", "window-unmarked:2", "src/writer_recover.c",
     "    return evidence->slots[other].valid &&", "    return false && evidence->slots[other].valid &&"),
    ("no barrier where both slots will be raised", "window-unmarked:2", "src/writer_recover.c",
     "((pick->repair & (1u << other)) != 0 || stale_in_force)", "(pick->repair & (1u << other)) != 0"),
    ("the slot in force raised at once", "window-unmarked", "src/writer_recover.c",
     "    if (error == 0 && stale_in_force)\n        error = cellar_header_barrier(header, end_bytes);\n", ""),
    ("process slot not mended", "window", "src/writer_recover.c",
     "        error = repair_process(writer, header, pick);\n", "        error = 0;\n"),
    ("cells that one slot counts used again", "path:513", "src/cell/header_pick.c",
     "    if (!pick->whole)\n        skip_cells(evidence, pick);\n", ""),
    ("what was found taken for durable", "window:7", "src/writer_open.c",
     "    writer->synced_next = pick.confirmed_index;", "    writer->synced_next = pick.adopted.next_index;"),
    ("one cell too many trimmed at open", "path", "src/writer_open.c",
     "error = cellar_device_trim(writer->ground->device, used_bytes);",
     "error = cellar_device_trim(writer->ground->device, used_bytes - writer->config.bytes_per_cell);"),
    ("one cell too many trimmed at close", "path", "src/writer.c",
     "    return cellar_device_trim(writer->ground->device, used_bytes);",
     "    return cellar_device_trim(writer->ground->device, used_bytes - writer->config.bytes_per_cell);"),
    ("committed cells allocated again", "window:2", "src/cell/alloc.c",
     "(uint64_t)alloc->ready_index * alloc->bytes_per_cell;",
     "(uint64_t)(alloc->ready_index - 1) * alloc->bytes_per_cell;"),
    ("space published before it is there", "ahead", "src/cell/alloc.c",
     "return target > alloc->ready_index ? make_ready(alloc, target) : CELLAR_NONE;",
     "return target > alloc->ready_index ? (int)(alloc->ready_index = target) * 0 : CELLAR_NONE;"),
    ("the helper grows from where it was", "ahead", "src/cell/ahead.c",
     "    pthread_mutex_lock(&ahead->grow_lock);\n    cellar_ahead_learn(ahead, alloc);\n",
     "    pthread_mutex_lock(&ahead->grow_lock);\n"),
    ("version not synced", "window", "src/writer.c",
     "        error = cellar_header_settle(&writer->ground->header);", "        error = 0;"),
    ("new store not synced", "path", "src/writer_file.c",
     "        error = cellar_device_sync(ground->device, 0, file_bytes);", "        error = 0;"),
    ("name of an empty store not made durable", "path-pages:20", "src/writer_open.c",
     "        error = cellar_file_settle_name(writer->real_path);", "        error = 0;"),
    ("sums: the new file's name not durable", "sums", "src/writer_sums.c",
     "        error = cellar_sum_settle_fresh(writer->real_path);", "        error = 0;"),
    ("sums: the new file not durable", "sums", "src/writer_sums.c",
     "        error = cellar_sum_sync(file);\n    if (error == 0)\n        error = cellar_sum_settle",
     "        error = 0;\n    if (error == 0)\n        error = cellar_sum_settle"),
    ("sums: of what is not flushed", "sums", "src/sum/sum_extend.c",
     "    int error = 0;\n\n    if (to_bytes > file->covered_bytes) {",
     "    int error = cellar_device_size(store, &to_bytes);\n\n    if (to_bytes > file->covered_bytes) {"),
    ("sums: made before the flush is durable", "sums", "src/writer.c",
     "cellar_header_persist(header, state) : error;",
     "(cellar_writer_sums_extend(writer, state->next_index), cellar_header_persist(header, state)) : error;"),
    ("sums: the identity of before kept by truncate", "sums", "src/writer_truncate.c",
     "identity != 0 ? cellar_sum_make_identity(&writer->sums_identity) : 0", "0"),
    ("record: both in one place", "window", "src/cell/header_record.c",
     "    header->record_place = 1 - header->record_place;\n", ""),
    ("record: hash of half the cells", "window", "src/cell/record.c",
     "CELLAR_RECORD_AT_HASH), cells, length_bytes);", "CELLAR_RECORD_AT_HASH), cells, length_bytes / 2);"),
    ("record: barrier dropped", "window", "src/cell/header_record.c", CHECKED_BARRIER, ""),
    ("record: barrier of the header alone", "window", "src/cell/header_record.c",
     "cellar_header_barrier(header, (uint64_t)state->next_index * bytes_per_cell)",
     "cellar_header_barrier(header, CELLAR_HEADER_BYTES)"),
    ("record: slots before the barrier", "window", "src/cell/header_record.c", CHECKED_BARRIER,
     "    if (error == 0)\n        error = store_slots(header, state);\n" + CHECKED_BARRIER),
    ("record: not said by the flag", "window", "src/cell/header_record.c",
     "cellar_header_change_flags(header, CELLAR_FLAG_CHECKED, 0)", "0"),
    ("record: of no larger next", "window", "src/cell/header_record.c",
     "next_index > header->disk.next_index &&", "next_index >= header->disk.next_index &&"),
    ("record: over slots of the same next", "window", "src/cell/header_pick.c",
     "record->state.next_index > next_index", "record->state.next_index >= next_index"),
    ("record: not the larger of two", "window", "src/cell/header_pick.c",
     "            next_index = record->state.next_index;\n", ""),
    ("record: taken though its hash is wrong", "window", "src/cell/record.c", "*ret_holds = hash == record->hash;",
     "*ret_holds = true;"),
    ("record: by a writer that rests on another's", "window", "src/cell/header_record.c",
     "header->checked && header->record_ready && ", "header->checked && "),
    ("record: cells of an unknown sync not written again", "failing-large", "src/cell/header_pick.c",
     "pick->whole || (pick->record >= 0 && !pick->fresh)", "pick->whole"),
    ("record: left by close", "window", "src/writer.c",
     "    error = cellar_header_end_records(&writer->ground->header);", "    error = 0;"),
    ("record: dropped by close before the slots are durable", "window", "src/cell/header_record.c",
     "    error = cellar_header_settle(header);", "    error = 0;"),
    ("word: not stored when a writer opens", "failing", "src/writer_recover.c",
     WORD_ADOPTED, ""),
    ("word: stored after the slots are bound", "failing:4", "src/writer_recover.c",
     WORD_ADOPTED + SLOTS_ADOPTED, SLOTS_ADOPTED + WORD_ADOPTED),
    ("word: the slots bound beside one that is not adopted", "failing", "src/writer_recover.c",
     "bool binds_last = to->words && !writer->words && !pick->whole;", "bool binds_last = false;"),
    ("word: the slots not bound where they hold what it says", "window", "src/writer_recover.c",
     "bool binds_last = to->words && !writer->words && !pick->whole;",
     "bool binds_last = to->words && !writer->words;"),
    ("word: the slots left unbound", "failing", "src/writer_recover.c",
     "    return error == 0 && binds_last ? cellar_header_publish(to, adopted, &writer->key) : error;",
     "    return error;"),
    ("word: stored by a writer without the flag", "window", "src/cell/header_word.c",
     "        error = cellar_header_change_flags(header, CELLAR_FLAG_WORD, 0);", "        error = 0;"),
    ("word: the flag before the word", "window:25", "src/writer_recover.c",
     "    if (writer->words)\n        cellar_header_commit_word(to,",
     "    if (writer->words)\n        (void)!cellar_header_change_flags(to, CELLAR_FLAG_WORD, 0);\n"
     "    if (writer->words)\n        cellar_header_commit_word(to,"),
    ("word: the flag stays when a writer by slots opens", "window", "src/cell/header_word.c",
     "        error = cellar_header_change_flags(header, 0, CELLAR_FLAG_WORD);", "        error = 0;"),
    ("word: the epoch stays when a writer opens", "window", "src/cell/header_word.c",
     EPOCH, ""),
    ("word: the epoch stays where no word will be", "window", "src/cell/header_word.c",
     "(wanted || header->epoch != 0)", "wanted"),
    ("word: the epoch changes before the flag is clear", "window", "src/cell/header_word.c",
     FLAG_CLEAR + EPOCH, EPOCH.replace("error == 0 && ", "") + FLAG_CLEAR.replace("if (", "if (error == 0 && ")),
    ("word: the epoch stays at truncate", "path", "src/writer_truncate.c",
     "        (void)!cellar_header_end_epoch(&ground->header);", "        ;"),
    ("word: RETIRED after the epoch", "path", "src/writer_truncate.c",
     RETIRED + RETIRED_EPOCH, RETIRED_EPOCH + RETIRED),
    ("word: trusted where nothing says that it is whole", "window", "src/cell/header_pick.c",
     WHOLE, "    pick->whole = (pick->word || is_whole(evidence)) && !suspect;"),
    ("word: trusted where SUSPECT stands", "failing-large:4", "src/cell/header_pick.c",
     WHOLE, "    pick->whole = is_whole(evidence) && (pick->word || !suspect);"),
    ("word: ignored", "window", "src/cell/header_pick.c",
     "    if ((evidence->extension.flags & CELLAR_FLAG_WORD) == 0 ||", "    if (true ||"),
    ("word: its cells not counted where it isn't whole", "window-unmarked:8", "src/cell/header_pick.c",
     "    pick->process = *word;\n", "    if (!is_whole(evidence))\n        return 0;\n    pick->process = *word;\n"),
    ("word: one beyond the file taken for corrupt", "path:493", "src/cell/header_pick.c",
     "is_whole(evidence) ? fail(ret_problem, CELLAR_AT_WORD + 4, word->next_index) : 0;",
     "fail(ret_problem, CELLAR_AT_WORD + 4, word->next_index);"),
    ("word: the flag not looked at", "path:8", "src/cell/header_pick.c",
     "(evidence->extension.flags & CELLAR_FLAG_WORD) == 0 || word", "word"),
    ("word: no slots at a flush", "window", "src/writer.c",
     "    if (error == 0 && writer->words) /* what is flushed",
     "    if (error == 0 && false) /* what is flushed"),
    ("word: a close leaves the flag", "window", "src/writer.c",
     "        error = cellar_header_switch_words(&writer->ground->header, false);", "        error = 0;"),
    ("word: a commit before its cells", "window", "src/writer.c",
     STORE_WORD, STORE_WORD.replace("next_index,", "next_index + 1,")),
    ("reader: process sync followed after a power loss", "window", "src/reader_key.c",
     "    return lost->any && seen->any &&", "    return false && seen->any &&"),
    ("reader: the word followed after a power loss", "window", "src/reader_key.c",
     "    return reader->lost.any && word->epoch == reader->lost.epoch;", "    return false && word->epoch == 0;"),
    ("reader: by what a power loss left for good", "window", "src/reader.c",
     "cellar_reader_is_lost(reader, &seen))\n        seen.any = false;", "false)\n        seen.any = false;"),
    ("folder not synced", "path", "src/device/file_name.c",
     "        error = sync_folder(folder);", "        error = 0;"),
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, required=True, help="the project's folder")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build folder with compile_commands.json")
    parser.add_argument("--link", required=True, help="the command that links it, with OUTPUT and OBJECT in it")
    parser.add_argument("--runs", type=int, default=40, help="a mutant that survives so many runs has survived")
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--every", type=int, default=1, help="of these every so many alone")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def compile_command(context, source):
    """How the build compiles the file."""
    for entry in json.loads((context.build / "compile_commands.json").read_text()):
        if pathlib.Path(entry["file"]) == source and "cellar_objects" in entry["command"]:
            return shlex.split(entry["command"]), entry["directory"]
    raise LookupError(f"the build compiles no {source}")


def build(context, folder, mutant):
    """The simulator with the mutant in it."""
    _, _, name, piece, becomes = mutant
    source = context.root / name
    text = source.read_text()
    if text.count(piece) != 1:
        raise ValueError(f"{name} has the piece {text.count(piece)} times")
    changed, made, program = folder / source.name, folder / "mutant.o", folder / "crash"
    changed.write_text(text.replace(piece, becomes))
    command, directory = compile_command(context, source)
    command[command.index("-o") + 1] = str(made)
    command[command.index(str(source))] = str(changed)
    subprocess.run([*command, "-w", f"-I{source.parent}"], cwd=directory, check=True, capture_output=True, text=True)
    link = context.link.replace("OUTPUT", str(program)).replace("OBJECT", str(made))
    subprocess.run(shlex.split(link), check=True, capture_output=True, text=True)
    return program


def check(context, mutant):
    """None if it was found, else what went wrong; and the last line."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            program = build(context, pathlib.Path(folder), mutant)
        except subprocess.CalledProcessError as error:
            return f"does not build: {error.stderr}", ""
        except (LookupError, ValueError) as error:
            return str(error), ""
        mode, _, seed = mutant[1].partition(":")
        result = subprocess.run([program, "--mode", mode, "--seed", seed or "1", "--runs", str(context.runs),
                                 "--until-failure"], capture_output=True, text=True, timeout=300, check=False)
    lines = result.stdout.splitlines() or [""]
    if result.returncode == 0:
        return "survived", lines[-1]
    if result.returncode != 1 or "FAILED" not in result.stdout:
        return f"ended with {result.returncode}, without a failure", lines[-1]
    return None, lines[-1]


def main():
    context = arguments()
    mutants = [mutant for mutant in MUTANTS if context.only in mutant[0]][::context.every]
    wrong = 0
    with concurrent.futures.ThreadPoolExecutor(context.jobs) as pool:
        for mutant, (problem, last) in zip(mutants, pool.map(lambda mutant: check(context, mutant), mutants)):
            verdict = "found" if problem is None else "NOT FOUND"
            print(f"{verdict}: {mutant[0]} ({mutant[1]}; {problem or last})", flush=True)
            wrong += problem is not None
    print(f"{len(mutants)} mutants, {wrong} not found")
    return 1 if wrong > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
