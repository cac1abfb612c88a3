"""What bench/report is made of: results and their fields, tables, goals, charts."""
