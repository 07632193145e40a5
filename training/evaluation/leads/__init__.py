"""Does the search find the reaction that made the data? The study of LEADS on synthetic hearts."""
