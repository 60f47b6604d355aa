"""Programs that measure, and studies. A study is a folder with a README (question, command, result) and its results."""
