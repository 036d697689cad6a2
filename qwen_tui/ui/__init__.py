"""The screens. The only folder that imports Textual; what it draws, the domain folders report."""
